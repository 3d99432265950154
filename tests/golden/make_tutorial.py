"""The tutorial's U-Net in PyTorch, written from its description, and its golden arrays: tutorial.npz."""

import torch
from torch import nn
from torch.nn import functional
from torch_layout import count, save


class DoubleConv(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x):
        return functional.relu(self.conv2(functional.relu(self.conv1(x))))


class Tutorial(nn.Module):
    def __init__(self, channels: int, classes: int, width: int = 64):
        super().__init__()
        w = width
        self.encoder = nn.ModuleList(
            [
                DoubleConv(channels, w),
                DoubleConv(w, 2 * w),
                DoubleConv(2 * w, 4 * w),
                DoubleConv(4 * w, 8 * w),
            ]
        )
        self.decoder = nn.ModuleList(
            [DoubleConv(8 * w + 4 * w, 4 * w), DoubleConv(4 * w + 2 * w, 2 * w), DoubleConv(2 * w + w, w)]
        )
        self.head = nn.Conv2d(w, classes, 1)

    def forward(self, image):
        down1 = self.encoder[0](image)
        down2 = self.encoder[1](functional.max_pool2d(down1, 2))
        down3 = self.encoder[2](functional.max_pool2d(down2, 2))
        x = self.encoder[3](functional.max_pool2d(down3, 2))
        for block, skip in zip(self.decoder, (down3, down2, down1), strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = block(torch.cat([x, skip], dim=1))
        return self.head(x)


if __name__ == "__main__":
    assert count(Tutorial(3, 1)) == 7_782_913
    torch.manual_seed(0)
    save(
        "tutorial",
        Tutorial(3, 1, width=4),
        torch.randn(2, 3, 16, 24),
        gradients=["encoder/0/conv1/kernel", "encoder/3/conv2/bias", "decoder/2/conv1/kernel", "head/bias"],
        seed=1,
    )
