"""TensorBoard's events of a run: the numbers of its history, pictures of validated slices and, once, its config.

tensorboardX makes the messages. Its own writer would hand them to a thread, which tells nobody of a full disk and whose
queue is lost when the process is killed; here an event is on the disk before the run goes on, as the history is.
"""

import dataclasses
import json
import os
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from unet_jax.files import append_bytes
from unet_jax.run.config import flatten

if TYPE_CHECKING:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

# tensorboardX is imported when the first event is written: it imports PyTorch where that is installed.

FOLDER = "tensorboard"
# TensorBoard reads what has "tfevents" in its name, in the order of the names.
PREFIX = "events.out.tfevents."
VERSION = "brain.Event:2"
# A fifth of the default's bytes where pixels are repeated.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 6)
# The length of a record, and the checksum of the length.
HEADER, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


@dataclasses.dataclass(frozen=True)
class EventFile:
    """The events since the program was started. The first of them makes the file.

    Attributes:
        path: of this start's own: TensorBoard, which may be reading along, goes from one file to the next.
        resumed: the step that the run goes on from.
        config: the run's.
    """

    path: Path
    resumed: int
    config: Mapping[str, Any]

    def append(self, record: Mapping[str, Any], pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Adds one event.

        Args:
            record: a line of the history, of a step or an epoch.
            pictures: RGB, by title.

        Raises:
            StorageError: the disk is full, read-only or failing; the file is as it was.
        """
        from tensorboardX.proto.summary_pb2 import Summary

        group = "epoch" if "epoch" in record else "train"
        values = [Summary.Value(tag=_tag(group, key), simple_value=value) for key, value in _numbers(record).items()]
        values += [_picture(title, picture) for title, picture in pictures.items()]
        data = _framed(step=record["step"], summary=Summary(value=values))
        append_bytes(self.path, data if self.path.exists() else self._beginning() + data)

    def _beginning(self) -> bytes:
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.summary import text

        data = _framed(file_version=VERSION)
        if self.resumed:
            # What TensorBoard has read of the steps after this one, before `rewind` dropped them, it forgets.
            data += _framed(step=self.resumed + 1, session_log=SessionLog(status=SessionLog.START))
        if not _files(self.path.parent):
            lines = json.dumps(self.config, indent=2).splitlines()
            # Markdown shows what is indented as it is.
            data += _framed(summary=text("config", "\n".join(f"    {line}" for line in lines)))
        return data


def event_file(workdir: Path, resumed: int, config: Mapping[str, Any]) -> EventFile:
    """Where the events go from now on, those of the run so far being rewound."""
    return EventFile(workdir / FOLDER / f"{PREFIX}{time.time_ns()}", resumed, config)


def rewind(workdir: Path, step: int, epochs: int) -> None:
    """Drops the events after `step` and `epochs`, as `run_folder.rewind_history` does with its records.

    What follows an event that a killed process left unfinished, or that is damaged, is dropped as well: no reader gets
    beyond it.
    """
    for path in _files(workdir / FOLDER):
        data = path.read_bytes()
        kept = _kept(data, step, epochs)
        if not kept:
            path.unlink()
        elif kept < len(data):
            os.truncate(path, kept)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"))


def _kept(data: bytes, step: int, epochs: int) -> int:
    """How many bytes lie before the first event to drop; none if no numbers are among them."""
    kept = 0
    for end, event in _events(data):
        if not event.HasField("summary"):
            continue
        numbers = {value.tag: value.simple_value for value in event.summary.value if value.HasField("simple_value")}
        if event.step > step or numbers.get("epoch", 0) > epochs:
            break
        if numbers:
            kept = end
    return kept


def _events(data: bytes) -> Iterator[tuple[int, "Event"]]:
    """Where each event ends, and what it is, up to one that is unfinished or damaged."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    end = 0
    while (start := end + HEADER.size + CHECKSUM.size) <= len(data):
        header = data[end : end + HEADER.size]
        if CHECKSUM.pack(masked_crc32c(header)) != data[end + HEADER.size : start]:
            return
        content = start + HEADER.unpack(header)[0]
        end = content + CHECKSUM.size
        if end > len(data):
            return
        try:
            event = Event.FromString(data[start:content])
        except DecodeError:
            return
        yield end, event


def _framed(**fields: Any) -> bytes:
    """An event as a TFRecord: its length, the length's checksum, the event, the event's checksum."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    content = Event(wall_time=time.time(), **fields).SerializeToString()
    header = HEADER.pack(len(content))
    return b"".join(
        [header, CHECKSUM.pack(masked_crc32c(header)), content, CHECKSUM.pack(masked_crc32c(content))],
    )


def _numbers(record: Mapping[str, Any]) -> dict[str, int | float]:
    """What can be drawn as a curve over the steps."""
    flat = flatten(record)
    return {key: value for key, value in flat.items() if key != "step" and type(value) in (int, float)}


def _tag(group: str, key: str) -> str:
    return key if key == "epoch" else f"{group}/{key.replace('.', '/')}"


def _picture(title: str, picture: UInt8[np.ndarray, "h w 3"]) -> "Summary.Value":
    from tensorboardX.proto.summary_pb2 import Summary

    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), PNG)
    height, width, channels = picture.shape
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png.tobytes())
    return Summary.Value(tag=f"validation/{title}", image=image)
