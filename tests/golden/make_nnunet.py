"""nnU-Net's plain and residual-encoder networks in PyTorch, written from their descriptions: nnunet*.npz, resenc*.npz.

A stage is a list of convolutions (kernel k, padding k // 2, bias), each followed by instance normalisation (1e-5,
affine) and leaky ReLU 0.01; the first of a stage has its stride. Residual blocks have two of them, the second without
the leaky ReLU, which comes after the sum; their shortcut is average pooling by the stride, then, where the channels
differ, a 1×1 convolution without bias and an instance normalisation.
"""

import torch
from torch import nn
from torch.nn import functional
from torch_layout import count, save

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
AVERAGE = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class ConvNorm(nn.Module):
    def __init__(self, before, after, kernel, stride=None, bias=True, activate=True):
        super().__init__()
        rank = len(kernel)
        padding = tuple(k // 2 for k in kernel)
        self.conv = CONV[rank](before, after, kernel, stride=stride or 1, padding=padding, bias=bias)
        self.norm = NORM[rank](after, eps=1e-5, affine=True)
        self.activate = activate

    def forward(self, x):
        x = self.norm(self.conv(x))
        return functional.leaky_relu(x, 0.01) if self.activate else x


class ResidualBlock(nn.Module):
    def __init__(self, before, after, kernel, stride=None):
        super().__init__()
        rank = len(kernel)
        self.conv1 = ConvNorm(before, after, kernel, stride)
        self.conv2 = ConvNorm(after, after, kernel, activate=False)
        self.pool = AVERAGE[rank](stride) if stride else nn.Identity()
        if before != after:
            self.shortcut = ConvNorm(before, after, (1,) * rank, bias=False, activate=False)

    def forward(self, x):
        shortcut = self.pool(x)
        if hasattr(self, "shortcut"):
            shortcut = self.shortcut(shortcut)
        return functional.leaky_relu(self.conv2(self.conv1(x)) + shortcut, 0.01)


class Stage(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class NNUNet(nn.Module):
    def __init__(self, channels, classes, features, kernels, strides, blocks, decoder_blocks, *, residual, deep):
        super().__init__()
        rank = len(kernels[0])
        block = ResidualBlock if residual else ConvNorm
        self.residual, self.deep = residual, deep
        if residual:
            self.stem = ConvNorm(channels, features[0], kernels[0])
        before = features[0] if residual else channels
        self.encoder = nn.ModuleList()
        for here, kernel, stride, n in zip(features, kernels, strides, blocks, strict=True):
            first = block(before, here, kernel, stride if max(stride) > 1 else None)
            self.encoder.append(Stage(first, *(block(here, here, kernel) for _ in range(n - 1))))
            before = here
        self.upsamples, self.decoder, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(features) - 1)):
            here, n = features[i], decoder_blocks[len(features) - 2 - i]
            self.upsamples.append(TRANSPOSED[rank](features[i + 1], here, strides[i + 1], stride=strides[i + 1]))
            rest = (ConvNorm(here, here, kernels[i]) for _ in range(n - 1))
            self.decoder.append(Stage(ConvNorm(2 * here, here, kernels[i]), *rest))
        for width in features[:-1] if deep else features[:1]:
            self.heads.append(CONV[rank](width, classes, 1))

    def forward(self, x):
        if self.residual:
            x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        levels = []
        for upsample, stage in zip(self.upsamples, self.decoder, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
            levels.insert(0, x)
        return [head(level) for head, level in zip(self.heads, levels, strict=False)]


def isotropic(features, blocks, decoder_blocks, *, rank, residual):
    n = len(features)
    kernels, strides = [(3,) * rank] * n, [(1,) * rank] + [(2,) * rank] * (n - 1)
    return NNUNet(3, 1, features, kernels, strides, blocks, decoder_blocks, residual=residual, deep=False)


if __name__ == "__main__":
    features = [32, 64, 128, 256, 512, 512, 512]
    with torch.device("meta"):
        plain = isotropic(features, [2] * 7, [2] * 6, rank=2, residual=False)
        residual = isotropic(features, [1, 3, 4, 6, 6, 6, 6], [1] * 6, rank=2, residual=True)
        plain3d = isotropic([32, 64, 128, 256, 320, 320], [2] * 6, [2] * 5, rank=3, residual=False)
        residual3d = isotropic([32, 64, 128, 256, 320, 320], [1, 3, 4, 6, 6, 6], [1] * 5, rank=3, residual=True)
    print([count(model) for model in (plain, residual, plain3d, residual3d)])

    torch.manual_seed(0)
    flat = [(3, 3)] * 3
    deep = [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    flat_strides = [(1, 1), (2, 2), (2, 2)]
    deep_strides = [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    plain = {"residual": False, "deep": True}
    residual = {"residual": True, "deep": False}
    ends = ["decoder/0/layers/0/conv/kernel", "upsamples/0/kernel", "heads/0/kernel"]
    conv = "encoder/0/layers/0/conv/kernel"
    blocks = ["stem/norm/scale", "encoder/1/layers/0/shortcut/conv/kernel", "encoder/1/layers/1/conv2/conv/kernel"]
    save(
        "nnunet",
        NNUNet(3, 2, [4, 6, 8], flat, flat_strides, [1, 2, 2], [2, 1], **plain),
        torch.randn(2, 3, 8, 16),
        gradients=[*ends, conv, "heads/1/bias"],
        seed=1,
    )
    save(
        "nnunet3d",
        NNUNet(1, 2, [2, 4, 5], deep, deep_strides, [2, 2, 2], [2, 2], **plain),
        torch.randn(1, 1, 4, 8, 12),
        gradients=[*ends, conv, "heads/1/kernel"],
        seed=1,
    )
    save(
        "resenc",
        NNUNet(3, 2, [4, 6, 6], flat, flat_strides, [1, 2, 2], [1, 1], **residual),
        torch.randn(2, 3, 8, 16),
        gradients=[*ends, *blocks],
        seed=1,
    )
    save(
        "resenc3d",
        NNUNet(1, 2, [2, 4, 5], deep, deep_strides, [1, 2, 1], [1, 1], **residual),
        torch.randn(1, 1, 4, 8, 12),
        gradients=[*ends, *blocks],
        seed=1,
    )
