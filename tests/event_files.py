"""Reads TensorBoard's event files, for tests."""

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c


def read(path: Path) -> Iterator[Event]:
    """The events of a file, up to one that a kill cut off; asserts that each is as it was written."""
    data = path.read_bytes()
    while len(data) >= 12:
        [length] = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
        content, checksum, data = data[12 : 12 + length], data[12 + length : 16 + length], data[16 + length :]
        if len(checksum) < 4:
            return
        assert struct.unpack("<I", checksum) == (masked_crc32c(content),)
        yield Event.FromString(content)


def values(folder: Path) -> list[tuple[int, str, float | bytes]]:
    """(step, tag, number, picture or text) that TensorBoard shows of all files, in the order they are written in.

    At each START but a run's first, it drops what it has read of that step and of later ones.
    """
    shown, started = [], False
    for path in sorted(folder.iterdir()):
        for event in read(path):
            if event.session_log.status == SessionLog.START:
                shown = [one for one in shown if one[0] < event.step] if started else shown
                started = True
            shown += [(event.step, value.tag, _content(value)) for value in event.summary.value]
    return shown


def _content(value) -> float | bytes:
    match value.WhichOneof("value"):
        case "simple_value":
            return value.simple_value
        case "image":
            return value.image.encoded_image_string
        case "tensor":
            return value.tensor.string_val[0]
