"""How many numbers are summed in registers at once."""

import dataclasses
import itertools
from collections.abc import Iterator

from llvmlite import ir

from unet_jax.models.fast.native import code


@dataclasses.dataclass(frozen=True)
class Tile:
    """Rows by vectors of sums: rows are pixels, or taps of a kernel, and vectors hold features.

    Attributes:
        rows: how many.
        vectors: of each row.
        lanes: numbers in a vector.
        is_cut: whether the last features fill a vector in part.
    """

    rows: int
    vectors: int
    lanes: int
    is_cut: bool

    @property
    def name(self) -> str:
        """Of letters and digits."""
        return f"{self.rows}x{self.vectors}x{self.lanes}{'cut' if self.is_cut else ''}"

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and vector of each sum."""
        return itertools.product(range(self.rows), range(self.vectors))

    def masks(self, b: ir.IRBuilder, features: ir.Value) -> list[ir.Value | None]:
        """For each vector the lanes that `features` more fill; None where that is all."""
        if not self.is_cut:
            return [None] * self.vectors
        return [
            code.first_lanes(b, b.sub(features, code.number(v * self.lanes)), self.lanes) for v in range(self.vectors)
        ]


def of_convolution(features: int, columns: int, lanes: int, registers: int) -> Tile:
    """The tile of a convolution with so many features and columns of its output: pixels by features."""
    vectors = _vectors(features, lanes)
    # Eight sums or more are under way while one is added; two vectors of weights and a number that is met take the rest.
    most = min(16 // vectors, (registers - 1) // vectors - 1, columns)
    rows = min(range(1, most + 1), key=lambda n: (-(-columns // n) * (n + 1), n))
    return Tile(rows, vectors, lanes, features % lanes > 0)


def of_kernel_gradient(features: int, line: int, lanes: int, registers: int) -> Tile:
    """The tile of a kernel's gradient: numbers of a line of the kernel, columns times channels, by features."""
    vectors = _vectors(features, lanes)
    most = min(24 // vectors, (registers - 1) // vectors - 1)
    rows = max(n for n in range(1, most + 1) if line % n == 0)
    return Tile(rows, vectors, lanes, features % lanes > 0)


def _vectors(features: int, lanes: int) -> int:
    """Two vectors of features share each number that is met, where that leaves none of them empty."""
    return 2 - -(-features // lanes) % 2
