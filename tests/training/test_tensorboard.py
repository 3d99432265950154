import errno
import json
import os
import subprocess
import sys

import cv2
import event_files
import numpy as np
import pytest
from disks import no_room_beyond
from tensorboardX.proto.event_pb2 import SessionLog

from unet_jax.errors import StorageError
from unet_jax.training import tensorboard

CONFIG = {"seed": 0, "data": {"root": "data/kaggle_3m", "labels": None}}


def _step(number):
    return {"step": number, "loss": 1 / number, "gradient_norm": None, "learning_rate": 0.001}


def _epoch(number, step):
    return {"step": step, "epoch": number, "val_dice": number / 10, "classes": {"oedema": 0.25}, "slices": ["a"]}


@pytest.fixture
def run(tmp_path):
    """A run of two epochs of three steps: of the next, one step."""
    file = tensorboard.event_file(tmp_path, 0, CONFIG)
    for record in (_step(1), _step(2), _step(3), _epoch(1, 3), _step(4), _step(5), _step(6), _epoch(2, 6), _step(7)):
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
    tensorboard.event_file(tmp_path, 0, CONFIG).append(_epoch(1, 3), {"anna/slice 2": picture})
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
    for resumed in (4, 0):  # killed before anything was saved, a run begins anew
        tensorboard.rewind(run, resumed, 0)
        tensorboard.event_file(run, resumed, CONFIG).append(_step(resumed + 1), {})
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
def test_a_run_that_goes_on_writes_no_step_twice(run, step, epochs, kept):
    for _ in range(2):  # what is resumed may be killed at once
        tensorboard.rewind(run, step, epochs)
        assert _scalars(run) == kept
    tensorboard.event_file(run, step, CONFIG).append(_step(step + 1), {})
    assert _scalars(run) == kept + _of_steps(step + 1)


def test_a_run_may_go_back_beyond_where_it_went_on_before(run):
    tensorboard.rewind(run, 6, 2)
    tensorboard.event_file(run, 6, CONFIG).append(_step(7), {})
    tensorboard.rewind(run, 4, 1)
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert _scalars(run) == [*_of_steps(1, 2, 3), *_of_epoch(3), *_of_steps(4)]


def test_tensorboard_is_told_to_forget_what_it_has_read_of_later_steps(run):
    tensorboard.rewind(run, 6, 2)
    tensorboard.event_file(run, 6, CONFIG).append(_step(7), {})
    starts = [
        [event.step for event in event_files.read(path) if event.session_log.status == SessionLog.START]
        for path in sorted((run / "tensorboard").iterdir())
    ]
    assert starts == [[], [7]]


def test_an_event_that_a_kill_left_unfinished_is_dropped(run):
    [path] = (run / "tensorboard").iterdir()
    whole = path.read_bytes()
    tensorboard.rewind(run, 6, 2)
    last = path.stat().st_size
    for size in range(last + 1, len(whole)):
        path.write_bytes(whole[:size])
        tensorboard.rewind(run, 7, 2)
        assert path.read_bytes() == whole[:last]


def test_what_is_damaged_ends_what_can_be_read(run):
    [path] = (run / "tensorboard").iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        tensorboard.rewind(run, 7, 2)
        assert not path.exists() or whole.startswith(path.read_bytes()[:place])
        path.write_bytes(whole)


def test_a_run_without_events_has_none_to_rewind(tmp_path):
    tensorboard.rewind(tmp_path, 3, 1)
    tensorboard.event_file(tmp_path, 3, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_whole_events(run):
    [path] = (run / "tensorboard").iterdir()
    before = path.read_bytes()
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = tensorboard.EventFile(path, 0, CONFIG)
    with no_room_beyond(len(before) + 100), pytest.raises(StorageError, match=rf"{path}.*File too large") as error:
        file.append(_epoch(3, 9), {"anna/slice 1": picture})
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_failing_disk_is_told_when_it_is_met(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(StorageError, match="check the disk"):
        tensorboard.event_file(tmp_path, 0, CONFIG).append(_step(1), {})


def test_starting_does_not_wait_for_tensorboardx():
    code = "import sys, unet_jax.training.tensorboard; sys.exit('tensorboardX' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
