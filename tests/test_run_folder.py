import json

import pytest

from unet_jax import run_folder
from unet_jax.errors import InputError
from unet_jax.files import read_json

CONFIG = {"seed": 0, "model": {"width": 64, "norm": "none"}, "phantom": {"slices": (20, 28)}, "clip": None}


@pytest.fixture
def workdir(tmp_path):
    run_folder.start(tmp_path / "run", CONFIG, "abc")
    return tmp_path / "run"


def test_a_new_folder_records_the_config_and_the_datas_fingerprint(workdir):
    as_json = CONFIG | {"phantom": {"slices": [20, 28]}}
    assert read_json(workdir / "config.json") == as_json | {"data_fingerprint": "abc"}


def test_the_same_config_may_go_on_and_rewrites_nothing(workdir):
    before = (workdir / "config.json").stat().st_mtime_ns
    run_folder.start(workdir, CONFIG, "abc")
    assert (workdir / "config.json").stat().st_mtime_ns == before


def test_every_key_that_differs_is_listed_with_both_values(workdir):
    other = CONFIG | {"seed": 1, "model": {"width": 32, "norm": "none", "depth": 4}}
    del other["phantom"]
    with pytest.raises(InputError) as error:
        run_folder.start(workdir, other, "abc")
    head, *listed = str(error.value).splitlines()
    assert str(workdir) in head
    assert "--workdir" in head
    assert listed == [
        "  config.model.depth: the run has None, this command 4",
        "  config.model.width: the run has 64, this command 32",
        "  config.phantom.slices: the run has [20, 28], this command None",
        "  config.seed: the run has 0, this command 1",
    ]


def test_other_data_are_told_from_another_config(workdir):
    with pytest.raises(InputError) as error:
        run_folder.start(workdir, CONFIG, "xyz")
    assert str(error.value).splitlines()[1:] == ["  the data's fingerprint: the run has 'abc', this command 'xyz'"]


def test_flatten_joins_keys_with_dots():
    tree = {"a": {"b": 1, "c": {"d": [2, 3]}}, "e": None}
    assert run_folder.flatten(tree) == {"a.b": 1, "a.c.d": [2, 3], "e": None}


def _append(workdir, *records):
    for record in records:
        run_folder.append_history(workdir, record)


def test_history_is_read_in_the_order_it_was_written(workdir):
    assert run_folder.read_history(workdir) == []
    records = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    _append(workdir, *records)
    assert run_folder.read_history(workdir) == records


def test_a_half_written_last_line_does_not_count(workdir):
    _append(workdir, {"step": 1}, {"step": 2})
    path = workdir / "history.jsonl"
    whole = path.read_text()
    for length in range(len(whole) // 2 + 1, len(whole)):
        path.write_text(whole[:length])
        assert run_folder.read_history(workdir) == [{"step": 1}]


def test_rewinding_drops_what_came_after_the_checkpoint(workdir):
    records = [{"step": step, "loss": 1 / step} for step in (10, 20, 30, 40)]
    _append(workdir, *records)
    with open(workdir / "history.jsonl", "a") as file:
        file.write('{"step": 50, "lo')
    assert run_folder.rewind_history(workdir, 30) == records[:3]
    _append(workdir, {"step": 31})
    lines = (workdir / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [*records[:3], {"step": 31}]


def test_a_run_that_starts_from_nothing_has_an_empty_history(workdir):
    assert run_folder.rewind_history(workdir, 0) == []
    _append(workdir, {"step": 10})
    assert run_folder.rewind_history(workdir, 0) == []
    assert run_folder.read_history(workdir) == []
