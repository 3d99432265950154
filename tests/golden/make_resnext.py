"""The Kaggle kernel's ResNeXt U-Net in PyTorch, and its golden arrays: resnext.npz.

The encoder is written out, with the module names of torchvision's resnext50_32x4d. The kernel keeps that
network as `base_model` and takes its parts from it, so that its state dictionary has the encoder twice, and
the classifier.
"""

import torch
from make_torch_weights import save_state
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch_layout import randomise


class Bottleneck(nn.Module):
    def __init__(self, before: int, after: int, inner: int, groups: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNeXt(nn.Module):
    """Only its parts are run, never the whole."""

    def __init__(self, channels: int, width: int, depths: list[int], groups: int, group_width: int):
        super().__init__()

        def layer(stage: int) -> nn.Sequential:
            after = 4 * width * 2**stage
            inner = groups * group_width * 2**stage
            blocks = []
            for block in range(depths[stage]):
                before = after if block else max(after // 2, width) if stage else width
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(before, after, inner, groups, stride))
            return nn.Sequential(*blocks)

        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (layer(stage) for stage in range(4))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32 * width, 10)


class ConvRelu(nn.Module):
    def __init__(self, before: int, after: int, size: int):
        super().__init__()
        self.convrelu = nn.Sequential(nn.Conv2d(before, after, size, padding=size // 2), nn.ReLU())

    def forward(self, x):
        return self.convrelu(x)


class Decoder(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = ConvRelu(before, before // 4, 1)
        self.deconv = nn.ConvTranspose2d(before // 4, before // 4, 4, stride=2, padding=1)
        self.conv2 = ConvRelu(before // 4, after, 1)

    def forward(self, x):
        return self.conv2(self.deconv(self.conv1(x)))


class ResNeXtUNet(nn.Module):
    def __init__(
        self,
        channels: int,
        classes: int,
        width: int = 64,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        groups: int = 32,
        group_width: int = 4,
    ):
        super().__init__()
        base = self.base_model = ResNeXt(channels, width, depths, groups, group_width)
        w = [4 * width, 8 * width, 16 * width, 32 * width]
        self.encoder0 = nn.Sequential(base.conv1, base.bn1, base.relu)
        self.encoder1, self.encoder2 = base.layer1, base.layer2
        self.encoder3, self.encoder4 = base.layer3, base.layer4
        self.decoder4 = Decoder(w[3], w[2])
        self.decoder3 = Decoder(w[2], w[1])
        self.decoder2 = Decoder(w[1], w[0])
        self.decoder1 = Decoder(w[0], w[0])
        self.last_conv0 = ConvRelu(w[0], w[0] // 2, 3)
        self.last_conv1 = nn.Conv2d(w[0] // 2, classes, 3, padding=1)

    def forward(self, image):
        e1 = self.encoder1(self.encoder0(image))
        e2 = self.encoder2(e1)
        e3 = self.encoder3(e2)
        e4 = self.encoder4(e3)
        d4 = self.decoder4(e4) + e3
        d3 = self.decoder3(d4) + e2
        d2 = self.decoder2(d3) + e1
        return self.last_conv1(self.last_conv0(self.decoder1(d2)))


if __name__ == "__main__":
    full = ResNeXtUNet(3, 1)
    unused = {id(parameter) for parameter in full.base_model.fc.parameters()}
    assert sum(p.numel() for p in full.parameters() if id(p) not in unused) == 30_947_777
    small = ResNeXtUNet(3, 2, width=2, depths=(2, 1, 2, 1), groups=2, group_width=2)
    randomise(small, seed=1)
    with torch.no_grad():
        for decoder in (small.decoder1, small.decoder2, small.decoder3, small.decoder4):
            # the residuals have grown on the way: this brings the logits to about 1
            decoder.deconv.weight.copy_((decoder.deconv.weight / 4).half())
        small.base_model.fc.weight.zero_()
        small.base_model.fc.bias.zero_()
    save_state("resnext", small, torch.randn(2, 3, 32, 48))
