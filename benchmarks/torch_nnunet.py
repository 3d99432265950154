"""The PyTorch side of volumes: nnU-Net's plain network and loss, as PyTorch's own users would write them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.torch_unet import leaves


class ConvNorm(nn.Module):
    """3×3×3 convolution, instance normalisation, leaky ReLU."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(before, after, 3, stride, padding=1)
        self.norm = nn.InstanceNorm3d(after, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of 1/stride of the size."""
        return functional.leaky_relu(self.norm(self.conv(x)), 0.01, inplace=True)


class Stage(nn.Module):
    """Two convolutions, named as `nnx.Sequential` names its layers."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.layers = nn.Sequential(ConvNorm(before, after, stride), ConvNorm(after, after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of 1/stride of the size."""
        return self.layers(x)


class PlainUNet(nn.Module):
    """`unet_jax.models.NNUNet` in 3-D with strides of 2, deep supervision in training; modules named as there."""

    def __init__(self, channels: int, classes: int, features: Sequence[int]):
        super().__init__()
        before = (channels, *features[:-1])
        self.encoder = nn.ModuleList(
            Stage(c, f, 1 if level == 0 else 2) for level, (c, f) in enumerate(zip(before, features, strict=True))
        )
        pairs = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.upsamples = nn.ModuleList(nn.ConvTranspose3d(below, here, 2, 2) for below, here in pairs)
        self.decoder = nn.ModuleList(Stage(2 * here, here) for _, here in pairs)
        self.heads = nn.ModuleList(nn.Conv3d(f, classes, 1) for f in features[:-1])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The finest logits first; in evaluation those alone."""
        skips, levels = [], []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for upsample, stage in zip(self.upsamples, self.decoder, strict=True):
            x = stage(torch.cat([upsample(x), skips.pop()], dim=1))
            levels.append(x)
        heads = self.heads if self.training else self.heads[:1]
        return [head(level) for head, level in zip(heads, levels[::-1], strict=False)]


def loss_of(logits: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice of the classes but the first, weighted 1, ½, … and 0 for the coarsest."""
    shares = [0.5**level for level in range(max(1, len(logits) - 1))]
    total = 0.0
    for share, level in zip(shares, logits, strict=False):
        level, size = level.float(), level.shape[2:]
        here = functional.interpolate(mask[:, None].float(), size, mode="nearest-exact")[:, 0].long()
        classes = functional.one_hot(here, level.shape[1]).movedim(-1, 1)[:, 1:].float()
        probability = level.softmax(1)[:, 1:]
        overlap, sizes = ((one).sum((0, 2, 3, 4)) for one in (probability * classes, probability + classes))
        dice = (1 - (2 * overlap + 1) / (sizes + 1)).mean()
        total = total + share / sum(shares) * (functional.cross_entropy(level, here) + dice)
    return total


def network(params: Mapping, channels: int, classes: int, features: Sequence[int]) -> PlainUNet:
    """The network with the parameters of unet_jax's."""
    model = PlainUNet(channels, classes, features)
    state = {}
    for path, array in leaves(params):
        array = np.array(array)
        if array.ndim == 5 and path.startswith("upsamples"):
            array = array[::-1, ::-1, ::-1].transpose(3, 4, 0, 1, 2)
        elif array.ndim == 5:
            array = array.transpose(4, 3, 0, 1, 2)
        state[path.replace("kernel", "weight").replace("scale", "weight")] = torch.from_numpy(array.copy())
    model.load_state_dict(state)
    return model
