"""A tile of sums in registers, of which each row belongs to a number, and each vector to features side by side."""

from collections.abc import Iterator, Sequence

from llvmlite import ir

from unet_jax.models.fast.native import code
from unet_jax.models.fast.native.tiles import Tile


class Sums:
    """The tile's sums, of the features from one on; in memory, a row is so many features."""

    def __init__(self, b: ir.IRBuilder, tile: Tile, features: ir.Value):
        self._tile, self._features = tile, features
        # Variables, which LLVM turns into registers.
        with b.goto_entry_block():
            vector = code.vector(tile.lanes)
            self._table = {place: b.alloca(vector) for place in tile.places()}
        self._masks = [None] * tile.vectors

    def begin(self, b: ir.IRBuilder, feature: ir.Value) -> None:
        """What follows is of the features from this one on."""
        if self._tile.is_cut:
            left = b.sub(self._features, feature)
            starts = [code.number(v * self._tile.lanes) for v in range(self._tile.vectors)]
            self._masks = [code.first_lanes(b, b.sub(left, start), self._tile.lanes) for start in starts]

    def clear(self, b: ir.IRBuilder) -> None:
        """Sets all to 0."""
        for place in self._tile.places():
            self._set(b, place, code.zeros(self._tile.lanes))

    def load_packed(self, b: ir.IRBuilder, packed: ir.Value) -> None:
        """Sets all to what `store_packed` wrote."""
        for (row, v), lanes in self._packed_places():
            self._set(b, (row, v), code.load(b, code.at(b, packed, lanes), self._tile.lanes))

    def store_packed(self, b: ir.IRBuilder, packed: ir.Value) -> None:
        """Writes all to memory, side by side, those included that no feature has."""
        for place, lanes in self._packed_places():
            code.store(b, self._get(b, place), code.at(b, packed, lanes))

    def store(self, b: ir.IRBuilder, memory: ir.Value) -> None:
        """Writes all to memory."""
        for place in self._tile.places():
            code.store(b, self._get(b, place), self._address(b, memory, place), self._masks[place[1]])

    def store_more(self, b: ir.IRBuilder, memory: ir.Value, *, is_first: ir.Value) -> None:
        """Adds all to what is in memory, or writes them there if they are the first."""
        for place in self._tile.places():
            address = self._address(b, memory, place)
            before = b.select(is_first, code.zeros(self._tile.lanes), self._load(b, address, place[1]))
            code.store(b, b.fadd(before, self._get(b, place)), address, self._masks[place[1]])

    def pack(self, b: ir.IRBuilder, count: ir.Value, memory: ir.Value, to: ir.Value) -> None:
        """Copies the tile's features of so many rows to where they lie side by side, with zeros where a vector is cut.

        In memory, rows are often a power of 2 apart, and of such places a cache keeps few.
        """
        tile = self._tile
        with code.counting(b, count) as row:
            for v in range(tile.vectors):
                source = code.at(b, memory, code.product(b, self._features, row), v * tile.lanes)
                place = code.at(b, to, code.product(b, row, tile.width), v * tile.lanes)
                code.store(b, self._load(b, source, v), place)

    def add(self, b: ir.IRBuilder, numbers: Sequence[ir.Value], features: ir.Value) -> None:
        """Adds to each row the product of its number and a packed row of features; both are addresses."""
        lanes = self._tile.lanes
        vectors = [code.load(b, code.at(b, features, v * lanes), lanes) for v in range(self._tile.vectors)]
        for row, number in enumerate(numbers):
            spread = code.spread(b, number, lanes)
            for v, vector in enumerate(vectors):
                self._set(b, (row, v), code.multiply_add(b, spread, vector, self._get(b, (row, v))))

    def _packed_places(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Row and vector of each sum, and where it is packed."""
        return ((place, i * self._tile.lanes) for i, place in enumerate(self._tile.places()))

    def _get(self, b: ir.IRBuilder, place: tuple[int, int]) -> ir.Value:
        return b.load(self._table[place], typ=code.vector(self._tile.lanes))

    def _set(self, b: ir.IRBuilder, place: tuple[int, int], value: ir.Value) -> None:
        b.store(value, self._table[place])

    def _load(self, b: ir.IRBuilder, address: ir.Value, vector: int) -> ir.Value:
        return code.load(b, address, self._tile.lanes, self._masks[vector])

    def _address(self, b: ir.IRBuilder, memory: ir.Value, place: tuple[int, int]) -> ir.Value:
        row, vector = place
        return code.at(b, memory, code.product(b, self._features, row), vector * self._tile.lanes)
