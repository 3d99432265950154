"""The numbers of one convolution, as compiled code is given them."""

import dataclasses
import math
from types import SimpleNamespace

from unet_jax.models.fast.native.tiles import Tile

Axes = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A convolution of volumes; images are volumes of one plane. Axes are z, y, x.

    Attributes:
        batch: volumes.
        channels: of the input.
        features: channels of the output.
        input: its size.
        output: its size.
        size: of the kernel.
        step: the stride.
        before: zeros before the input; negative where as much of the input is left out.
    """

    batch: int
    channels: int
    features: int
    input: Axes
    output: Axes
    size: Axes
    step: Axes
    before: Axes

    def numbers(self) -> dict[str, int]:
        """All by name, those of an axis as `input_z`, `input_y`, `input_x`."""
        found = {"batch": self.batch, "channels": self.channels, "features": self.features}
        for name in ("input", "output", "size", "step", "before"):
            found |= {f"{name}_{axis}": value for axis, value in zip("zyx", getattr(self, name), strict=True)}
        return found

    def of_group(self, groups: int) -> "Geometry":
        """That of a group of so many, all planes as those of one volume if its kernel is one plane deep."""
        batch = self.batch // groups
        if self.size[0] > 1 or self.step[0] > 1 or self.before[0] or self.input[0] != self.output[0]:
            return dataclasses.replace(self, batch=batch)
        planes = batch * self.input[0]
        return dataclasses.replace(self, batch=1, input=(planes, *self.input[1:]), output=(planes, *self.output[1:]))

    @property
    def weights(self) -> int:
        """How many the kernel has."""
        return math.prod(self.size) * self.channels * self.features

    @property
    def outputs(self) -> int:
        """How many numbers the output has."""
        return self.batch * math.prod(self.output) * self.features

    @property
    def products(self) -> int:
        """How many the convolution sums, those with zeros around the input included."""
        return self.outputs * math.prod(self.size) * self.channels

    def read(self, planes: int, rows: int) -> Axes:
        """Planes, rows and columns of the input, zeros around it included, that so much of the output comes from."""
        return (
            (planes - 1) * self.step[0] + self.size[0],
            (rows - 1) * self.step[1] + self.size[1],
            (self.output[2] - 1) * self.step[2] + self.size[2],
        )


# What compiled code is given besides: planes and rows of the output that it makes at once, planes and rows of the
# kernel that it sums up at once, in how many parts a group's work is done, and numbers of scratch for each.
CHOICES = ("block_y", "block_z", "parts", "scratch", "taps_y", "taps_z")
# In the order of the alphabet, as XLA hands them over.
NAMES = sorted([*Geometry(0, 0, 0, *[(0, 0, 0)] * 5).numbers(), *CHOICES])

# What a block reads of the input, and weights of a tile that are passed at once, bytes: with both, half of a core's cache.
BLOCK = 256 * 1024
WEIGHTS = 256 * 1024


def block(geometry: Geometry, also: int = 0) -> tuple[int, int]:
    """Planes and rows of the output that a block has: as many as BLOCK allows, and at least a row.

    Args:
        geometry: of the convolution.
        also: bytes that each pixel of the output takes besides.
    """

    def bytes_of(planes: int, rows: int) -> int:
        return (
            4 * geometry.channels * math.prod(geometry.read(planes, rows)) + also * planes * rows * geometry.output[2]
        )

    depth, height = geometry.output[:2]
    rows = max([n for n in range(1, height + 1) if bytes_of(1, n) <= BLOCK], default=1)
    if rows < height:
        return 1, rows
    return max([n for n in range(1, depth + 1) if bytes_of(n, height) <= BLOCK], default=1), height


def taps(geometry: Geometry, tile: Tile) -> tuple[int, int]:
    """Planes and rows of the kernel that are summed in registers: all, or as many as have WEIGHTS."""
    line = 4 * geometry.size[2] * geometry.channels * tile.vectors * tile.lanes
    if geometry.output[2] % tile.rows or math.prod(geometry.size[:2]) * line <= WEIGHTS:
        return geometry.size[:2]  # pixels that are made twice must be made whole
    return (1, geometry.size[1]) if geometry.size[1] * line <= WEIGHTS else (1, 1)


Numbers = SimpleNamespace
