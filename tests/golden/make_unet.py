"""U-Nets in PyTorch, written from their descriptions, and their golden arrays.

unet2015.npz: Ronneberger et al. 2015, at three levels. buda2019.npz: Buda et al. 2019, at all five.
attention.npz: a 3-D U-Net with attention gates, deep supervision and what else differs from those two.
"""

import math

import torch
from torch import nn
from torch.nn import functional
from torch_layout import count, save


class ValidConvs(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3)
        self.conv2 = nn.Conv2d(after, after, 3)

    def forward(self, x):
        return functional.relu(self.conv2(functional.relu(self.conv1(x))))


class Up(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.transposed = nn.ConvTranspose2d(before, after, 2, stride=2)

    def forward(self, x):
        return self.transposed(x)


class UNet2015(nn.Module):
    def __init__(self, channels: int, classes: int, width: int = 64, levels: int = 5):
        super().__init__()
        w = [width * 2**i for i in range(levels)]
        self.encoder = nn.ModuleList([ValidConvs(channels, w[0])])
        self.upsamples, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i in range(1, levels):
            self.encoder.append(ValidConvs(w[i - 1], w[i]))
        for i in reversed(range(levels - 1)):
            self.upsamples.append(Up(w[i + 1], w[i]))
            self.decoder.append(ValidConvs(2 * w[i], w[i]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skips = []
        for block in self.encoder[:-1]:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.encoder[-1](x)
        for up, block, skip in zip(self.upsamples, self.decoder, reversed(skips), strict=True):
            x = up(x)
            top, left = ((n - m) // 2 for n, m in zip(skip.shape[2:], x.shape[2:], strict=True))
            cropped = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
            x = block(torch.cat([x, cropped], dim=1))
        return self.head(x)


class NormedConvs(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)

    def forward(self, x):
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(x)))


class Buda2019(nn.Module):
    def __init__(self, channels: int, classes: int, width: int = 32):
        super().__init__()
        w = [width, 2 * width, 4 * width, 8 * width, 16 * width]
        self.encoder = nn.ModuleList(
            NormedConvs(before, after) for before, after in zip([channels, *w], w, strict=False)
        )
        self.upsamples = nn.ModuleList(Up(w[i + 1], w[i]) for i in (3, 2, 1, 0))
        self.decoder = nn.ModuleList(NormedConvs(2 * w[i], w[i]) for i in (3, 2, 1, 0))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        down1 = self.encoder[0](x)
        down2 = self.encoder[1](functional.max_pool2d(down1, 2))
        down3 = self.encoder[2](functional.max_pool2d(down2, 2))
        down4 = self.encoder[3](functional.max_pool2d(down3, 2))
        x = self.encoder[4](functional.max_pool2d(down4, 2))
        for up, block, skip in zip(self.upsamples, self.decoder, (down4, down3, down2, down1), strict=True):
            x = block(torch.cat([up(x), skip], dim=1))
        return self.head(x)


class GroupedConvs(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(math.gcd(32, after), after)
        self.conv2 = nn.Conv3d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(math.gcd(32, after), after)

    def forward(self, x):
        x = functional.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        return functional.leaky_relu(self.norm2(self.conv2(x)), 0.01)


class Gate(nn.Module):
    def __init__(self, skip_features: int, gate_features: int):
        super().__init__()
        self.skip = nn.Conv3d(skip_features, skip_features, 2, stride=2, bias=False)
        self.gate = nn.Conv3d(gate_features, skip_features, 1)
        self.weight = nn.Conv3d(skip_features, 1, 1)

    def forward(self, skip, gate):
        weight = torch.sigmoid(self.weight(functional.relu(self.skip(skip) + self.gate(gate))))
        return skip * functional.interpolate(weight, scale_factor=2, mode="trilinear", align_corners=True)


class Attention3D(nn.Module):
    """Three levels, nearest-neighbour upsampling; the logits at full and at half size."""

    def __init__(self, channels: int, classes: int, width: int):
        super().__init__()
        w = width
        self.encoder = nn.ModuleList([GroupedConvs(channels, w), GroupedConvs(w, 2 * w), GroupedConvs(2 * w, 4 * w)])
        self.gates = nn.ModuleList([Gate(2 * w, 4 * w), Gate(w, 2 * w)])
        self.decoder = nn.ModuleList([GroupedConvs(4 * w + 2 * w, 2 * w), GroupedConvs(2 * w + w, w)])
        self.head = nn.Conv3d(w, classes, 1)
        self.side_heads = nn.ModuleList([nn.Conv3d(2 * w, classes, 1)])

    def forward(self, x):
        down1 = self.encoder[0](x)
        down2 = self.encoder[1](functional.max_pool3d(down1, 2))
        bottom = self.encoder[2](functional.max_pool3d(down2, 2))
        half = torch.cat([functional.interpolate(bottom, scale_factor=2), self.gates[0](down2, bottom)], dim=1)
        half = self.decoder[0](half)
        full = torch.cat([functional.interpolate(half, scale_factor=2), self.gates[1](down1, half)], dim=1)
        return [self.head(self.decoder[1](full)), self.side_heads[0](half)]


if __name__ == "__main__":
    # Ronneberger et al. 2015, layer by layer: 3×3 convolutions, 2×2 up-convolutions and the last 1×1, with biases
    w = [64, 128, 256, 512, 1024]
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in zip([3, *w], w, strict=False))
    up = sum(4 * 2 * b * b + b + 9 * 2 * b * b + b + 9 * b * b + b for b in w[:-1])
    assert count(UNet2015(3, 1)) == down + up + 64 + 1 == 31_031_745
    assert count(Buda2019(3, 1)) == 7_763_041
    assert UNet2015(1, 2, width=1)(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)

    ends = ["encoder/0/conv1/kernel", "decoder/1/conv1/kernel", "head/kernel"]
    torch.manual_seed(0)
    save(
        "unet2015",
        UNet2015(1, 2, width=4, levels=3),
        torch.randn(1, 1, 44, 52),
        gradients=[*ends, "upsamples/0/transposed/kernel", "encoder/2/conv2/bias"],
        seed=1,
    )
    save(
        "buda2019",
        Buda2019(3, 1, width=2),
        torch.randn(2, 3, 16, 32),
        gradients=[*ends, "upsamples/0/transposed/kernel", "encoder/4/norm2/scale"],
        seed=1,
    )
    save(
        "attention",
        Attention3D(1, 2, width=3),
        torch.randn(2, 1, 4, 8, 12),
        gradients=[*ends, "gates/0/skip/kernel", "gates/1/weight/bias", "side_heads/0/kernel"],
        seed=1,
    )
