"""Reads TensorBoard's event files, for tests."""

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def read(path: Path) -> Iterator[Event]:
    """All events of a file; asserts that each is whole and as it was written."""
    with open(path, "rb") as file:
        while header := file.read(12):
            [length] = struct.unpack("<Q", header[:8])
            assert struct.unpack("<I", header[8:]) == (masked_crc32c(header[:8]),)
            content = file.read(length)
            assert struct.unpack("<I", file.read(4)) == (masked_crc32c(content),)
            yield Event.FromString(content)


def values(folder: Path) -> list[tuple[int, str, float | bytes]]:
    """(step, tag, number, picture or text) of all files, in the order they are written in."""
    return [
        (event.step, value.tag, _content(value))
        for path in sorted(folder.iterdir())
        for event in read(path)
        for value in event.summary.value
    ]


def _content(value) -> float | bytes:
    match value.WhichOneof("value"):
        case "simple_value":
            return value.simple_value
        case "image":
            return value.image.encoded_image_string
        case "tensor":
            return value.tensor.string_val[0]
