"""How many numbers are summed in registers at once."""

import dataclasses
import itertools
from collections.abc import Iterator

# Sums that one tile has at most: with half as many registers again, for what is added, all of AVX-512's 32 are in use.
MOST = 16
MOST_OF_KERNEL = 24


@dataclasses.dataclass(frozen=True)
class Tile:
    """Rows by vectors of sums: rows are pixels, or places of a kernel, and vectors hold features.

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
    def width(self) -> int:
        """Features of a row."""
        return self.vectors * self.lanes

    @property
    def name(self) -> str:
        """Of letters and digits."""
        return f"{self.rows}x{self.vectors}x{self.lanes}{'cut' if self.is_cut else ''}"

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and vector of each sum."""
        return itertools.product(range(self.rows), range(self.vectors))


def of_convolution(features: int, columns: int, lanes: int, registers: int) -> Tile:
    """The tile of a convolution: pixels side by side, by features.

    Args:
        features: of the output.
        columns: of the output.
        lanes: numbers in a vector.
        registers: how many vectors they hold.
    """
    vectors = _vectors(features, lanes)
    most = min(_room(vectors, registers, MOST), columns)
    # The fewest tiles that a row takes, each as if it were a pixel wider; the last one may overlap the one before.
    rows = min(range(1, most + 1), key=lambda n: (-(-columns // n) * (n + 1), n))
    return Tile(rows, vectors, lanes, features % lanes > 0)


def of_kernel_gradient(features: int, line: int, lanes: int, registers: int) -> Tile:
    """The tile of a kernel's gradient: places of the kernel side by side, by features.

    Args:
        features: of the output.
        line: places side by side, which are the kernel's columns times the input's channels.
        lanes: numbers in a vector.
        registers: how many vectors they hold.
    """
    vectors = _vectors(features, lanes)
    most = _room(vectors, registers, MOST_OF_KERNEL)
    rows = max(n for n in range(1, most + 1) if line % n == 0)
    return Tile(rows, vectors, lanes, features % lanes > 0)


def _vectors(features: int, lanes: int) -> int:
    """Two vectors of features share each number that is met, where that leaves none of them empty."""
    return 2 - -(-features // lanes) % 2


def _room(vectors: int, registers: int, most: int) -> int:
    """Rows of so many vectors, with registers left for a row's number and for the features that it meets."""
    return min(most, registers - vectors - 1) // vectors
