import json

import pytest
from ml_collections import ConfigDict

from unet_jax.errors import DamageError, InputError
from unet_jax.files import write_json
from unet_jax.run import folder as run_folder


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_links_that_lead_out_of_the_folder_are_all_named(workdir, tmp_path):
    (workdir / "evaluation").mkdir()
    (workdir / "config.json").write_text("{}")
    (workdir / "newest").symlink_to("config.json")
    run_folder.check_links(workdir)
    (tmp_path / "linked").symlink_to(workdir)
    run_folder.check_links(tmp_path / "linked")
    (workdir / "evaluation" / "test").symlink_to(tmp_path)
    (workdir / "checkpoints").symlink_to("../elsewhere")
    with pytest.raises(InputError) as error:
        run_folder.check_links(workdir)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{workdir}/checkpoints: this link leads out of")
    assert second.startswith(f"{workdir}/evaluation/test: this link leads out of")


@pytest.mark.parametrize(
    ("root", "allowed"),
    [("data/phantom", True), ("../phantom", False), ("a/../../b", False), ("/no/such/phantom", False)],
)
def test_a_runs_config_cannot_have_the_phantom_written_anywhere(root, allowed, workdir, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = ConfigDict({"data": {"source": "phantom", "root": root}})
    if allowed:
        run_folder.check_phantom(workdir, config)
    else:
        with pytest.raises(InputError, match=rf"phantom\.root={root} does not exist"):
            run_folder.check_phantom(workdir, config)
    config.data.root = str(tmp_path)  # it is there: nothing is written
    run_folder.check_phantom(workdir, config)


@pytest.mark.parametrize(
    ("content", "channels", "files"),
    [
        ({"channels": 4, "files": {"a.tif": {}}}, 4, {"a.tif": {}}),
        ({"channels": 1, "files": {}}, 1, {}),
        ({"a.tif": {}}, None, {"a.tif": {}}),  # the form of before version 0.1: the files alone
        ({}, None, {}),
    ],
)
def test_what_a_run_noted_of_its_data_is_read_in_both_forms(content, channels, files, workdir):
    write_json(workdir / "data.json", content)
    assert run_folder.read_data(workdir)["files"] == files
    assert run_folder.read_channels(workdir) == channels


def test_a_run_may_be_older_than_any_note_of_its_data(workdir):
    assert run_folder.read_data(workdir) is None
    assert run_folder.read_channels(workdir) is None


@pytest.mark.parametrize("content", [[], 7, {"channels": 0, "files": {}}, {"channels": "3", "files": {}}])
def test_what_is_no_note_of_data_is_refused(content, workdir):
    write_json(workdir / "data.json", content)
    with pytest.raises(InputError, match=r"data\.json(: channels is .* number from 1 on| is not a description)"):
        run_folder.read_channels(workdir)


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
    assert run_folder.rewind_history(workdir, 30, 0) == records[:3]
    _append(workdir, {"step": 31})
    lines = (workdir / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [*records[:3], {"step": 31}]


def test_rewinding_drops_an_epoch_that_the_checkpoint_has_not_validated(workdir):
    records = [{"step": 10, "loss": 0.5}, {"step": 10, "epoch": 1}, {"step": 20, "loss": 0.4}, {"step": 20, "epoch": 2}]
    _append(workdir, *records)
    assert run_folder.rewind_history(workdir, 20, 1) == records[:3]


def test_a_run_that_starts_from_nothing_has_an_empty_history(workdir):
    assert run_folder.rewind_history(workdir, 0, 0) == []
    _append(workdir, {"step": 10})
    assert run_folder.rewind_history(workdir, 0, 0) == []
    assert run_folder.read_history(workdir) == []


@pytest.mark.parametrize("line", ["{", "[]", '{"loss": 1}', '{"step": "x"}', "\x00"])
def test_a_damaged_line_is_named(line, workdir):
    _append(workdir, {"step": 1})
    with open(workdir / "history.jsonl", "a") as file:
        file.write(line + "\n")
    _append(workdir, {"step": 3})
    with pytest.raises(DamageError, match=r"history\.jsonl, line 2 is no record of a run"):
        run_folder.read_history(workdir)
