import pytest

from unet_jax.errors import DamageError
from unet_jax.run import history


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "run"


def _append(workdir, *records):
    for record in records:
        history.append(workdir, record)


def test_history_is_read_in_the_order_it_was_written(workdir):
    assert history.read(workdir) == []
    records = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    _append(workdir, *records)
    assert history.read(workdir) == records


def test_a_half_written_last_line_does_not_count(workdir):
    _append(workdir, {"step": 1}, {"step": 2})
    path = workdir / "history.jsonl"
    whole = path.read_text()
    for length in range(len(whole) // 2 + 1, len(whole)):
        path.write_text(whole[:length])
        assert history.read(workdir) == [{"step": 1}]


def test_rewinding_drops_what_came_after_the_checkpoint(workdir):
    records = [{"step": step, "loss": 1 / step} for step in (10, 20, 30, 40)]
    _append(workdir, *records)
    with open(workdir / "history.jsonl", "a") as file:
        file.write('{"step": 50, "lo')
    assert history.rewind(workdir, 30, 0) == records[:3]
    _append(workdir, {"step": 31})
    assert history.read(workdir) == [*records[:3], {"step": 31}]


def test_rewinding_drops_an_epoch_that_the_checkpoint_has_not_validated(workdir):
    records = [{"step": 10, "loss": 0.5}, {"step": 10, "epoch": 1}, {"step": 20, "loss": 0.4}, {"step": 20, "epoch": 2}]
    _append(workdir, *records)
    assert history.rewind(workdir, 20, 1) == records[:3]


def test_a_run_that_starts_from_nothing_has_an_empty_history(workdir):
    assert history.rewind(workdir, 0, 0) == []
    _append(workdir, {"step": 10})
    assert history.rewind(workdir, 0, 0) == []
    assert history.read(workdir) == []


@pytest.mark.parametrize("line", ["{", "[]", '{"loss": 1}', '{"step": "x"}', "\x00"])
def test_a_damaged_line_is_named(line, workdir):
    _append(workdir, {"step": 1})
    with open(workdir / "history.jsonl", "a") as file:
        file.write(line + "\n")
    _append(workdir, {"step": 3})
    with pytest.raises(DamageError, match=r"history\.jsonl, line 2 is not a record of a run"):
        history.read(workdir)


def test_any_flipped_bit_of_a_whole_line_is_found(workdir):
    _append(workdir, {"step": 1, "loss": 0.5}, {"step": 2, "epoch": 1, "val_dice": 0.25})
    path = workdir / "history.jsonl"
    whole = path.read_bytes()
    for place in range(len(whole) - 1):  # the end of the last line makes it one that was left unfinished
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(DamageError):
                history.read(workdir)


def test_lines_of_an_older_version_are_read_and_newer_ones_follow(workdir):
    workdir.mkdir()
    (workdir / "history.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    _append(workdir, {"step": 3})
    assert history.read(workdir) == [{"step": 1}, {"step": 2}, {"step": 3}]
    before = (workdir / "history.jsonl").read_bytes()
    assert history.rewind(workdir, 3, 0) == history.read(workdir)
    assert (workdir / "history.jsonl").read_bytes() == before


def test_epochs_that_are_missing_before_the_checkpoint_are_damage(workdir):
    _append(workdir, {"step": 10, "epoch": 1}, {"step": 20, "epoch": 2})
    with pytest.raises(DamageError, match=r"history\.jsonl has 2 of the 3 epochs before checkpoint 30"):
        history.rewind(workdir, 30, 3)


@pytest.mark.parametrize(
    ("dices", "best"), [((0.1, 0.7, 0.7, 0.2), 2), ((None, 0.0, None), 2), ((None, 0.1, 0.3), 3), ((None, None), 2)]
)
def test_the_best_epoch_is_the_first_with_the_highest_dice_or_the_last_where_none_is_defined(dices, best):
    epochs = [{"epoch": number, "val_dice": dice} for number, dice in enumerate(dices, 1)]
    assert history.best_epoch(epochs)["epoch"] == best
