import errno
import json
import os
import subprocess
import sys

import cv2
import event_files
import numpy as np
import pytest
from disks import no_room_beyond, small_disk
from tensorboardX.proto.event_pb2 import SessionLog

from unet_jax.errors import StorageError
from unet_jax.training.tensorboard import EventFile

CONFIG = {"seed": 0, "data": {"root": "data/kaggle_3m", "labels": None}}


def _step(number):
    return {"step": number, "loss": 1 / number, "gradient_norm": None, "learning_rate": 0.001}


def _epoch(number, step):
    return {"step": step, "epoch": number, "val_dice": number / 10, "classes": {"oedema": 0.25}, "slices": ["a"]}


HISTORY = [_step(1), _step(2), _step(3), _epoch(1, 3), _step(4), _step(5), _step(6), _epoch(2, 6), _step(7)]


def _rewound(step, epochs):
    return [record for record in HISTORY if record["step"] <= step and record.get("epoch", 0) <= epochs]


@pytest.fixture
def run(tmp_path):
    """A run of two epochs of three steps: of the next, one step."""
    file = EventFile(tmp_path, 0, [], CONFIG)
    for record in HISTORY:
        file.append(record, {})
    return tmp_path


def _scalars(workdir):
    return [(step, tag) for step, tag, _ in event_files.values(workdir / "tensorboard") if tag != "config/text_summary"]


def _of_steps(*numbers):
    return [(number, tag) for number in numbers for tag in ("train/loss", "train/learning_rate")]


def _of_epoch(step):
    return [(step, tag) for tag in ("epoch", "epoch/val_dice", "epoch/classes/oedema")]


def test_every_number_of_the_history_is_an_event(run):
    [path] = (run / "tensorboard").iterdir()
    first, *_ = event_files.read(path)
    assert first.file_version == "brain.Event:2"
    expected = [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5, 6), *_of_epoch(6), *_of_steps(7)]
    assert _scalars(run) == expected
    found = {(step, tag): value for step, tag, value in event_files.values(run / "tensorboard")}
    assert found[4, "train/loss"] == 0.25
    assert found[3, "epoch/val_dice"] == pytest.approx(0.1)
    assert found[6, "epoch"] == 2


def test_pictures_are_read_back_as_they_were(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    EventFile(tmp_path, 0, [], CONFIG).append(_epoch(1, 3), {"anna/slice 2": picture})
    [png] = [
        value for _, tag, value in event_files.values(tmp_path / "tensorboard") if tag == "validation/anna/slice 2"
    ]
    read = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(read, picture)


def test_the_config_is_there_once(run):
    def configs():
        return [value for _, tag, value in event_files.values(run / "tensorboard") if tag == "config/text_summary"]

    [text] = configs()
    assert json.loads(text.decode()) == CONFIG
    assert all(line.startswith("    ") for line in text.decode().splitlines())
    for resumed in (4, 0):  # a run that was killed before anything was saved begins again
        EventFile(run, resumed, _rewound(resumed, 1), CONFIG).append(_step(resumed + 1), {})
        assert configs() == [text]


@pytest.mark.parametrize(
    ("step", "epochs", "kept"),
    [
        (7, 2, [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5, 6), *_of_epoch(6), *_of_steps(7)]),
        (6, 2, [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5, 6), *_of_epoch(6)]),
        (6, 1, [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5, 6)]),  # saved, and not validated yet
        (4, 1, [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4)]),
        (3, 0, _of_steps(1, 2, 3)),
        (0, 0, []),
    ],
)
def test_a_resumed_run_shows_no_step_and_no_epoch_twice(run, step, epochs, kept):
    for _ in range(2):  # the resumed run is killed after a step, and resumes from the same checkpoint
        EventFile(run, step, _rewound(step, epochs), CONFIG).append(_step(step + 1), {})
        assert _scalars(run) == kept + _of_steps(step + 1)


def test_an_epoch_is_validated_once_where_its_last_step_is_not_logged(run):
    history = [record for record in _rewound(6, 1) if record["step"] != 6]
    EventFile(run, 6, history, CONFIG).append(_epoch(2, 6), {})
    assert _scalars(run) == [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5), *_of_epoch(6)]


def test_what_the_history_has_of_a_skipped_step_is_not_drawn(run):
    skipped = {"step": 4, "nonfinite": "loss", "skipped": 1, "slices": {"anna": [3]}}
    EventFile(run, 4, [*_rewound(4, 1), skipped], CONFIG).append(_step(5), {})
    assert _scalars(run) == [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5)]


def test_a_run_may_go_back_beyond_where_it_resumed_before(run):
    EventFile(run, 6, _rewound(6, 2), CONFIG).append(_step(7), {})
    EventFile(run, 4, _rewound(4, 1), CONFIG).append(_step(5), {})
    assert _scalars(run) == [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4, 5)]


def test_every_file_says_from_where_it_counts(run):
    """Twice, as TensorBoard ignores the first START that it meets in a run: it may be in an older file, or in none."""
    EventFile(run, 6, _rewound(6, 2), CONFIG).append(_step(7), {})
    starts = [
        [event.step for event in event_files.read(path) if event.session_log.status == SessionLog.START]
        for path in sorted((run / "tensorboard").iterdir())
    ]
    assert starts == [[1, 1], [7, 7]]


def test_an_event_that_a_kill_cut_off_ends_its_file_and_not_the_next(run):
    [path] = (run / "tensorboard").iterdir()
    whole = path.read_bytes()
    EventFile(run, 6, _rewound(6, 2), CONFIG).append(_step(7), {})
    expected = event_files.values(run / "tensorboard")
    for size in range(len(whole) - 50, len(whole)):  # within the event of step 7
        path.write_bytes(whole[:size])
        assert event_files.values(run / "tensorboard") == expected


def test_a_run_without_events_leaves_nothing(tmp_path):
    EventFile(tmp_path, 3, [], CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_every_event_is_on_the_disk_when_append_returns(tmp_path):
    """It is read from the file while the writer still has it open, as after a kill."""
    file = EventFile(tmp_path, 0, [], CONFIG)
    for number in range(1, 20):
        file.append(_step(number), {})
        assert _scalars(tmp_path) == _of_steps(*range(1, number + 1))


@pytest.mark.parametrize("side", [4, 64])
def test_a_full_disk_is_told_and_leaves_whole_events(tmp_path, side):
    """With a picture smaller than the writer's buffer, and with one larger."""
    file = EventFile(tmp_path, 0, [], CONFIG)
    file.append(_step(1), {})
    before = file.path.read_bytes()
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with no_room_beyond(len(before) + 100), pytest.raises(StorageError, match=rf"{file.path}.*File too large") as error:
        file.append(_epoch(3, 9), {"anna/slice 1": picture})
    assert "\n" not in str(error.value)
    del file
    assert next(tmp_path.rglob("events*")).read_bytes() == before


def test_a_disk_that_is_full_from_the_beginning_is_told(tmp_path):
    with small_disk(tmp_path / "disk", "16k") as disk:
        (disk / "filler").write_bytes(bytes(12_000))
        file = EventFile(disk, 0, [], CONFIG)
        with pytest.raises(StorageError, match=r"No space left on device; .* bytes are needed, .* are free"):
            file.append(_step(1), {"anna/slice 1": np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)})
        assert file.path.stat().st_size == 0


def test_a_failing_disk_is_told_when_it_is_met(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = EventFile(tmp_path, 0, [], CONFIG)
    file.append(_step(1), {})
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="check the disk"):
        file.append(_step(2), {})
    assert _scalars(tmp_path) == _of_steps(1)


def test_starting_does_not_wait_for_tensorboardx():
    code = "import sys, unet_jax.training.tensorboard; sys.exit('tensorboardX' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
