"""The numbers of one convolution, as compiled code is given them."""

import dataclasses
import math
from types import SimpleNamespace

Axes = tuple[int, int, int]
# Those of a Geometry and of CHOICES by name, as code that is written reads them.
Numbers = SimpleNamespace


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
# kernel that it sums up at once, in how many parts a group's work is done, and numbers of scratch for each: where, in
# these, packed features begin, and sums that are not done yet.
CHOICES = ("block_y", "block_z", "packed", "partial", "parts", "scratch", "taps_y", "taps_z")
# In the order of the alphabet, as XLA hands them over.
NAMES = sorted([*Geometry(0, 0, 0, *[(0, 0, 0)] * 5).numbers(), *CHOICES])
