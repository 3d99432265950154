"""The Kaggle kernel's feature pyramid in PyTorch, with its module names, and its golden arrays: fpn.npz."""

import torch
from make_torch_weights import double_conv, save_state
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch_layout import count, randomise


def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Block(nn.Module):
    def __init__(self, features: int, groups: int, upsample: bool):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.GroupNorm(groups, features),
            nn.ReLU(),
        )
        self.upsample = upsample

    def forward(self, x):
        x = self.block(x)
        return resize(x, (2 * x.shape[2], 2 * x.shape[3])) if self.upsample else x


class Branch(nn.Module):
    def __init__(self, features: int, groups: int, upsamplings: int):
        super().__init__()
        blocks = [Block(features, groups, upsamplings > 0) for _ in range(max(upsamplings, 1))]
        self.block = nn.Sequential(*blocks)

    def forward(self, x):
        return self.block(x)


class FPN(nn.Module):
    def __init__(self, channels: int, classes: int, width: int = 64, pyramid: int = 256, groups: int = 32):
        super().__init__()
        w = [width, 2 * width, 4 * width, 8 * width, 16 * width]
        self.conv_down1 = double_conv(channels, w[0])
        self.conv_down2 = double_conv(w[0], w[1])
        self.conv_down3 = double_conv(w[1], w[2])
        self.conv_down4 = double_conv(w[2], w[3])
        self.conv_down5 = double_conv(w[3], w[4])
        self.toplayer = nn.Conv2d(w[4], pyramid, 1)
        self.latlayer1 = nn.Conv2d(w[3], pyramid, 1)
        self.latlayer2 = nn.Conv2d(w[2], pyramid, 1)
        self.latlayer3 = nn.Conv2d(w[1], pyramid, 1)
        self.smooth1 = nn.Conv2d(pyramid, pyramid, 3, padding=1)
        self.smooth2 = nn.Conv2d(pyramid, pyramid, 3, padding=1)
        self.smooth3 = nn.Conv2d(pyramid, pyramid, 3, padding=1)
        self.seg_blocks = nn.ModuleList(Branch(pyramid, groups, upsamplings) for upsamplings in range(4))
        self.last_conv = nn.Conv2d(pyramid, classes, 1)

    def forward(self, image):
        c1 = F.max_pool2d(self.conv_down1(image), 2)
        c2 = F.max_pool2d(self.conv_down2(c1), 2)
        c3 = F.max_pool2d(self.conv_down3(c2), 2)
        c4 = F.max_pool2d(self.conv_down4(c3), 2)
        c5 = F.max_pool2d(self.conv_down5(c4), 2)
        p5 = self.toplayer(c5)
        p4 = self.latlayer1(c4) + resize(p5, c4.shape[2:])
        p3 = self.latlayer2(c3) + resize(p4, c3.shape[2:])
        p2 = self.latlayer3(c2) + resize(p3, c2.shape[2:])
        levels = self.smooth3(p2), self.smooth2(p3), self.smooth1(p4), p5
        total = sum(branch(level) for branch, level in zip(self.seg_blocks, levels, strict=True))
        return resize(self.last_conv(total), image.shape[2:])


if __name__ == "__main__":
    assert count(FPN(3, 1)) == 25_238_593
    small = FPN(3, 2, width=2, pyramid=8, groups=4)
    randomise(small, seed=1)
    save_state("fpn", small, torch.randn(2, 3, 64, 32))
