"""TensorBoard's events of a run: the numbers of its history, pictures of validated slices and, once, its config.

tensorboardX makes the events and writes them as records. Its SummaryWriter is not used: it hands events to a thread
that dies on a full disk and tells nobody, after which the run waits forever for room in the queue; and its `flush` does
not wait for that thread, so what is queued is lost when the process is killed. Here an event is on the disk, or its
error raised, before the run continues.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from unet_jax.files import storage_error
from unet_jax.training.loggers import scalars

if TYPE_CHECKING:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

# tensorboardX is imported when the first event is written: it imports PyTorch where that is installed.

FOLDER = "tensorboard"
# TensorBoard reads what has "tfevents" in its name, in the order of the names.
PREFIX = "events.out.tfevents."
VERSION = "brain.Event:2"


class EventFile:
    """The events since the program was started, in a file of their own. The first of them makes the file.

    TensorBoard reads a run's files one after the other, and drops what earlier files have from the first step on that
    this one writes again: so a killed and resumed run shows each step and each epoch once.

    Args:
        workdir: the run's folder.
        resumed: the step that the run resumes from, 0 for a new one.
        history: the run's records up to there, rewound to what the checkpoint has.
        config: the run's.
    """

    def __init__(self, workdir: Path, resumed: int, history: Sequence[Mapping[str, Any]], config: Mapping[str, Any]):
        self.path = workdir / FOLDER / f"{PREFIX}{time.time_ns()}"
        last = [record for record in history if record["step"] == resumed and "nonfinite" not in record]
        closed = any("epoch" in record for record in last)
        # A process that was killed between an epoch's record and its checkpoint left an event of the epoch, at the same
        # step as training's last one: both are dropped, and training's is repeated. The config's lies at step 0.
        self._first_step = resumed + 1 if closed else max(resumed, 1)
        self._repeated = [] if closed else last
        self._config = config
        self._writer: RecordWriter | None = None
        self._whole = 0

    def append(self, record: Mapping[str, Any], pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Adds one event.

        Args:
            record: a line of the history, of a step or an epoch.
            pictures: RGB, by title.

        Raises:
            StorageError: the disk is full, read-only or failing; the file is as it was.
        """
        events = [] if self._writer else self._beginning()
        self._write([event.SerializeToString() for event in [*events, _event(record, pictures)]])

    def close(self) -> None:
        """Closes the file, if there is one; the events are on the disk already."""
        if self._writer:
            self._writer.close()

    def _beginning(self) -> list["Event"]:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import text

        now = time.time()
        start = Event(wall_time=now, step=self._first_step, session_log=SessionLog(status=SessionLog.START))
        # TensorBoard drops nothing at the first START that it meets in a run, so that each file has two.
        events = [Event(wall_time=now, file_version=VERSION), start, start]
        if not list(self.path.parent.glob(f"{PREFIX}*")):
            lines = json.dumps(self._config, indent=2).splitlines()
            # Markdown shows indented lines as they are.
            events.append(Event(wall_time=now, summary=text("config", "\n".join(f"    {line}" for line in lines))))
        return events + [_event(record, {}) for record in self._repeated]

    def _write(self, records: Sequence[bytes]) -> None:
        from tensorboardX.record_writer import RecordWriter

        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = RecordWriter(str(self.path))
            for record in records:
                self._writer.write(record)
            self._writer.flush()
            self._whole = self.path.stat().st_size
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close()
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._whole)
            raise storage_error(error, self.path, sum(map(len, records))) or error from None


def _event(record: Mapping[str, Any], pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> "Event":
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import make_image

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(record).items()]
    values += [Summary.Value(tag=f"validation/{title}", image=make_image(rgb)) for title, rgb in pictures.items()]
    return Event(wall_time=time.time(), step=record["step"], summary=Summary(value=values))
