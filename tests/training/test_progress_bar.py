import io
import time

import pytest

from unet_jax.training import progress_bar
from unet_jax.training.pace import Pace
from unet_jax.training.progress_bar import ProgressBar

EPOCHS = [{"epoch": 1, "val_dice": 0.75}, {"epoch": 2, "val_dice": 0.5}]
RECORD = {"loss": 0.25, "spikes": 0, "skipped": 2}


@pytest.fixture
def pace():
    """Steps of 3 seconds, validations of 60."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.begin()
    now[0] = 3.0
    pace.step()
    pace.validated(60.0)
    return pace


def test_a_line_has_all_of_the_run(pace):
    with ProgressBar(20, 1210, 10, EPOCHS, pace) as bar:
        bar.step(30)
        assert bar.line() == (
            # 1,180 steps of 3 s and 118 validations of 60 s are 177 minutes.
            "epoch 3 of 121, step 30 of 1,210, 2 h 57 min left, validation Dice 0.500 (best 0.750 in epoch 1)"
        )
        bar.logged(RECORD)
        bar.doing("validation")
        assert ", step 30 of 1,210, validation, 2 h 57 min left, loss 0.250, skipped 2, validation" in bar.line()


def test_before_anything_is_known_nothing_is_said_of_it():
    with ProgressBar(0, 25, 10, [], Pace()) as bar:
        assert bar.line() == "epoch 1 of 3, step 0 of 25"
        bar.step(25)
        assert bar.line() == "epoch 3 of 3, step 25 of 25"
        bar.validated([{"epoch": 1, "val_dice": None}], "epoch 1/3: …")
        assert bar.line() == "epoch 3 of 3, step 25 of 25"


def test_without_a_terminal_there_is_a_line_every_two_minutes(pace, monkeypatch, capsys):
    assert progress_bar.LINE_EVERY == 120
    monkeypatch.setattr(progress_bar, "LINE_EVERY", 0.05)
    with ProgressBar(0, 20, 10, [], pace) as bar:
        bar.step(7)
        bar.doing("validation")
        time.sleep(0.3)
        bar.validated(EPOCHS[:1], "epoch 1/2: all of it")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1 of 2, step 7 of 20, validation, ")
    assert lines[-1] == "epoch 1/2: all of it"
    assert 2 <= len(lines) <= 8


def test_on_a_terminal_a_bar_shows_the_whole_run(pace, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressBar(10, 40, 10, EPOCHS[:1], pace) as bar:
        bar.doing("compiling the first step, last time 4.0 s")
        bar.step(11)
        bar.doing("validation")
        bar.doing("")
    shown = [part.strip() for part in terminal.getvalue().split("\r")]
    assert any(part.startswith("compiling the first step, last time 4.0 s  25%|") for part in shown)
    assert any(part.startswith("epoch 2 of 4") and "| 11/40 steps" in part and "left" in part for part in shown)
    assert any("validation Dice 0.750 (best 0.750 in epoch 1)" in part for part in shown)
