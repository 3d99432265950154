"""Predicted masks kept small, so that pictures can be drawn once all scores are known."""

import dataclasses
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Int, UInt8

from unet_jax.metrics.cases import Predicted
from unet_jax.runtime import exchange


@dataclasses.dataclass(frozen=True)
class PackedMask:
    """A case's mask: what of it is not empty, compressed.

    Attributes:
        numbers: which slices of the case it has.
        shape: slices, rows, columns.
        box: the smallest one around all that is not empty.
        data: the box's voxels, deflated.
    """

    numbers: Int[np.ndarray, " s"]
    shape: tuple[int, ...]
    box: tuple[slice, ...]
    data: bytes


def keep(predicted: Iterable[Predicted], kept: dict[int, PackedMask]) -> Iterator[Predicted]:
    """Passes predicted cases on, and puts each one's packed mask into `kept` under the case's position."""
    for position, numbers, mask in predicted:
        kept[position] = pack(numbers, mask)
        yield position, numbers, mask


def pack(numbers: Int[np.ndarray, " s"], mask: UInt8[np.ndarray, "s h w"]) -> PackedMask:
    """A few kilobytes for a tumour in 60 slices of 256x256."""
    shadow = mask.any(0)
    box = tuple(_extent(occupied) for occupied in (mask.any((1, 2)), shadow.any(1), shadow.any(0)))
    return PackedMask(numbers, mask.shape, box, zlib.compress(mask[box].tobytes(), level=1))


def unpack(packed: PackedMask) -> UInt8[np.ndarray, "s h w"]:
    """The mask that `pack` was given."""
    mask = np.zeros(packed.shape, np.uint8)
    inside = mask[packed.box]
    inside[...] = np.frombuffer(zlib.decompress(packed.data), np.uint8).reshape(inside.shape)
    return mask


def to_bytes(masks: Mapping[int, PackedMask]) -> bytes:
    """Masks by the position of their case, for another process: see `from_bytes`."""
    header = [
        [position, one.numbers.tolist(), one.shape, [[part.start, part.stop] for part in one.box], len(one.data)]
        for position, one in masks.items()
    ]
    return b"\n".join([json.dumps(header).encode(), b"".join(one.data for one in masks.values())])


def of_all_processes(masks: Mapping[int, PackedMask]) -> dict[int, PackedMask]:
    """The masks of this process and of all others."""
    parts = exchange.collect(to_bytes(masks)) if exchange.count() > 1 else []
    return dict(masks) | {position: mask for part in parts for position, mask in from_bytes(part).items()}


def from_bytes(data: bytes) -> dict[int, PackedMask]:
    """The masks that `to_bytes` was given."""
    header, _, data = data.partition(b"\n")
    masks, at = {}, 0
    for position, numbers, shape, box, length in json.loads(header):
        spans = tuple(slice(*span) for span in box)
        masks[position] = PackedMask(np.array(numbers, np.int32), tuple(shape), spans, data[at : at + length])
        at += length
    return masks


def _extent(occupied: np.ndarray) -> slice:
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
