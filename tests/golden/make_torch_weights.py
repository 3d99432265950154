"""State dictionaries as others' PyTorch code names them, with the logits they give: *_weights.npz.

A .npz holds `image` and `logits` (channels last), and by PyTorch's keys and in its axis order `state/…`, all
that the state dictionary has; weights are float16, in which they are exact.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch_layout import channels_last, count, randomise


def save_state(name: str, model: nn.Module, image: torch.Tensor) -> None:
    """Writes <name>.npz: the weights and running statistics of `model`, `image` and the logits."""
    model.eval()
    with torch.no_grad():
        logits = model(image)
    arrays = {"image": channels_last(image), "logits": channels_last(logits)}
    for key, value in model.state_dict().items():
        arrays[f"state/{key}"] = value.half().numpy() if value.is_floating_point() else value.numpy()
        assert np.array_equal(arrays[f"state/{key}"], value.numpy()), key
    file = Path(__file__).parent / f"{name}.npz"
    np.savez_compressed(file, **arrays)
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB, logits' std {logits.std():.2f}")


def double_conv(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()
    )


class Tutorial(nn.Module):
    """With the tutorial's module names."""

    def __init__(self, channels: int, classes: int, width: int = 64):
        super().__init__()
        w = width
        self.conv_down1 = double_conv(channels, w)
        self.conv_down2 = double_conv(w, 2 * w)
        self.conv_down3 = double_conv(2 * w, 4 * w)
        self.conv_down4 = double_conv(4 * w, 8 * w)
        self.conv_up3 = double_conv(12 * w, 4 * w)
        self.conv_up2 = double_conv(6 * w, 2 * w)
        self.conv_up1 = double_conv(3 * w, w)
        self.last_conv = nn.Conv2d(w, classes, 1)

    def forward(self, image):
        down1 = self.conv_down1(image)
        down2 = self.conv_down2(F.max_pool2d(down1, 2))
        down3 = self.conv_down3(F.max_pool2d(down2, 2))
        x = self.conv_down4(F.max_pool2d(down3, 2))
        for block, skip in ((self.conv_up3, down3), (self.conv_up2, down2), (self.conv_up1, down1)):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = block(torch.cat([x, skip], 1))
        return self.last_conv(x)


class Buda(nn.Module):
    """With the key names of the checkpoint on PyTorch Hub."""

    def __init__(self, channels: int, classes: int, width: int = 32):
        super().__init__()
        w = [width * 2**level for level in range(5)]
        for level, before, after in zip(range(1, 5), [channels, *w], w, strict=False):
            self.add_module(f"encoder{level}", self.block(before, after, f"enc{level}"))
        self.bottleneck = self.block(w[3], w[4], "bottleneck")
        for level in range(4, 0, -1):
            self.add_module(f"upconv{level}", nn.ConvTranspose2d(w[level], w[level - 1], 2, stride=2))
            self.add_module(f"decoder{level}", self.block(w[level], w[level - 1], f"dec{level}"))
        self.conv = nn.Conv2d(w[0], classes, 1)

    @staticmethod
    def block(before: int, after: int, name: str) -> nn.Sequential:
        block = nn.Sequential()
        for n, features in ((1, before), (2, after)):
            block.add_module(f"{name}conv{n}", nn.Conv2d(features, after, 3, padding=1, bias=False))
            block.add_module(f"{name}norm{n}", nn.BatchNorm2d(after))
            block.add_module(f"{name}relu{n}", nn.ReLU())
        return block

    def forward(self, image):
        x, skips = image, {}
        for level in range(1, 5):
            skips[level] = self.get_submodule(f"encoder{level}")(x)
            x = F.max_pool2d(skips[level], 2)
        x = self.bottleneck(x)
        for level in range(4, 0, -1):
            x = self.get_submodule(f"upconv{level}")(x)
            x = self.get_submodule(f"decoder{level}")(torch.cat([x, skips[level]], 1))
        return self.conv(x)


if __name__ == "__main__":
    assert count(Tutorial(3, 1)) == 7_782_913
    assert count(Buda(3, 1)) == 7_763_041
    tutorial, buda = Tutorial(3, 1, width=2), Buda(3, 1, width=2)
    randomise(tutorial, seed=1)
    randomise(buda, seed=2)
    save_state("tutorial_weights", tutorial, torch.randn(1, 3, 16, 24))
    save_state("buda2019_weights", buda, torch.randn(1, 3, 16, 32))
