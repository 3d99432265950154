import json
from pathlib import Path

import data_sets
import pytest

from configs import default
from unet_jax.errors import InputError
from unet_jax.files import read_json, write_json
from unet_jax.run import resume
from unet_jax.run.config import flatten

DIGESTS = {Path("a/a_1.tif"): (5, "0" * 64), Path("a/a_1_mask.tif"): (3, "1" * 64), Path("b/b_1.tif"): (4, "2" * 64)}


@pytest.fixture
def config():
    return default.get_config()


@pytest.fixture
def workdir(config, tmp_path):
    resume.record(tmp_path / "run", config, data_sets.of(DIGESTS))
    return tmp_path / "run"


def compare(workdir, config, fingerprint="abc", digests=DIGESTS):
    """What may differ, or the lines of the error."""
    try:
        return resume.compare(workdir, config, data_sets.of(digests, fingerprint=fingerprint))
    except InputError as error:
        return str(error).splitlines()


def test_a_new_folder_records_the_config_and_the_data(workdir, config):
    content = read_json(workdir / "config.json")
    assert content.pop("data_fingerprint") == "abc"
    assert content == json.loads(json.dumps(config.to_dict()))
    assert content["phantom"]["slices"] == [20, 28]
    assert read_json(workdir / "data.json") == {
        "channels": 3,
        "files": {
            "a/a_1.tif": {"bytes": 5, "sha256": "0" * 64},
            "a/a_1_mask.tif": {"bytes": 3, "sha256": "1" * 64},
            "b/b_1.tif": {"bytes": 4, "sha256": "2" * 64},
        },
    }


def test_a_run_that_noted_its_files_alone_goes_on_and_notes_its_channels(workdir, config):
    """As runs did before version 0.1."""
    whole = read_json(workdir / "data.json")
    write_json(workdir / "data.json", whole["files"])
    assert resume.read_files(workdir) == DIGESTS
    assert compare(workdir, config) == []
    other = compare(workdir, config, "xyz", DIGESTS | {Path("b/b_1.tif"): (4, "9" * 64)})
    assert other[2:] == ["  b/b_1.tif: has another content"]
    resume.record(workdir, config, data_sets.of(DIGESTS))
    assert read_json(workdir / "data.json") == whole


def test_the_same_run_may_go_on_and_rewrites_nothing(workdir, config):
    before = [path.stat().st_mtime_ns for path in sorted(workdir.iterdir())]
    assert compare(workdir, config) == []
    resume.record(workdir, config, data_sets.of(DIGESTS))
    assert [path.stat().st_mtime_ns for path in sorted(workdir.iterdir())] == before


def test_a_folder_without_a_run_has_nothing_to_differ_from(config, tmp_path):
    assert compare(tmp_path, config) == []


def test_each_key_that_differs_is_listed_with_both_values(workdir, config):
    config.seed = 1
    config.train.batch_size = 16
    config.augment.flip_rows = 0.0
    config.model.norm = "batch"
    config.phantom.slices = (4, 6)
    with config.unlocked():
        config.data.classes = 4
        config.model.dropout = 0.1
    head, *listed = compare(workdir, config)
    assert str(workdir) in head
    assert "--workdir" in head
    assert listed == [
        "  config.augment.flip_rows: the run has 0.5, this command 0.0",
        "  config.data.classes: the run has None, this command 4",
        "  config.model.dropout: the run has None, this command 0.1",
        "  config.model.norm: the run has 'none', this command 'batch'",
        "  config.phantom.slices: the run has [20, 28], this command [4, 6]",
        "  config.seed: the run has 0, this command 1",
        "  config.train.batch_size: the run has 32, this command 16",
    ]


def test_the_flags_that_resume_a_run_as_it_was_begun_are_told(workdir, config):
    """As where a recipe has another value than when the run was begun; data that are decoded otherwise are others."""
    config.data.axes = "file"
    head, *listed = compare(workdir, config, "xyz")
    assert "; to resume it as it was begun, add --config.data.axes=patient, or name another --workdir:" in head
    assert listed[0] == "  config.data.axes: the run has 'patient', this command 'file'"
    assert "undo the change" in compare(workdir, config, "xyz", DIGESTS | {Path("c.tif"): (1, "3" * 64)})[0]

    config.data.axes, config.phantom.slices, config.train.minutes = "patient", (4, 6), 5.0
    flags = "'--config.phantom.slices=(20, 28)' --config.train.minutes=None"
    assert f"add {flags}, or name" in compare(workdir, config)[0]
    # Without a key that differs, no flag makes the data the same again.
    assert "undo the change" in compare(workdir, config, "xyz")[0]


def test_more_epochs_are_another_run_and_the_error_says_why(workdir, config):
    config.train.epochs = 40
    assert "20, this command 40; the learning rate's schedule depends on it" in compare(workdir, config)[1]


def test_each_file_that_differs_is_named_beside_the_keys(workdir, config):
    config.seed = 1
    digests = dict(DIGESTS)
    digests[Path("a/a_1.tif")] = (5, "f" * 64)
    del digests[Path("b/b_1.tif")]
    digests[Path("c/c_1.tif")] = (1, "3" * 64)
    assert compare(workdir, config, "xyz", digests)[1:] == [
        "  config.seed: the run has 0, this command 1",
        "  the data's fingerprint: the run has 'abc', this command 'xyz'",
        "  a/a_1.tif: has another content",
        "  b/b_1.tif: is missing",
        "  c/c_1.tif: is new",
    ]


def test_a_long_list_of_files_is_cut_and_counted(workdir, config):
    others = {Path(f"z/{number:04}.tif"): (1, "4" * 64) for number in range(1000)}
    lines = compare(workdir, config, "xyz", DIGESTS | others)[2:]
    assert len(lines) == resume.LISTED + 1
    assert lines[-1] == f"  … and {1000 - resume.LISTED} more files"


def test_a_key_that_is_newer_than_the_run_is_no_difference_at_its_default(workdir, config):
    old = read_json(workdir / "config.json")
    del old["augment"]["gamma"], old["train"]["patience"], old["optim"]["clip_norm"]
    write_json(workdir / "config.json", old)
    assert compare(workdir, config) == []
    config.train.patience = 7
    assert compare(workdir, config)[1:] == ["  config.train.patience: the run has 3, this command 7"]
    resume.record(workdir, default.get_config(), data_sets.of(DIGESTS))
    assert read_json(workdir / "config.json")["augment"]["gamma"] == {"probability": 0.0, "range": [0.7, 1.5]}


def test_where_things_lie_and_what_is_noted_may_change_and_is_said(workdir, config):
    config.data.root = "/elsewhere"
    config.data.workers = 2
    config.train.log_every_steps = 1
    assert compare(workdir, config) == [
        "config.data.root is '/elsewhere' from now on; it was 'data/kaggle_3m'.",
        "config.data.workers is 2 from now on; it was 0.",
        "config.train.log_every_steps is 1 from now on; it was 20.",
    ]
    resume.record(workdir, config, data_sets.of(DIGESTS))
    assert compare(workdir, config) == []


def test_the_same_folder_by_another_path_is_no_difference(workdir, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config.data.root = str(tmp_path / "data" / "kaggle_3m")
    assert compare(workdir, config) == []


def test_what_may_change_are_keys_that_there_are(config):
    known = flatten(config.to_dict())
    assert set(resume.HARMLESS) <= known.keys() | {key.partition(".")[0] for key in known}


@pytest.mark.parametrize(
    ("wanted", "begun", "saved", "complaint"),
    [
        ("auto", False, False, None),
        ("auto", True, False, None),
        ("auto", True, True, None),
        ("auto", False, True, "checkpoints and no config.json"),
        ("must", False, False, "no checkpoint to resume from"),
        ("must", True, False, "no checkpoint to resume from"),
        ("must", True, True, None),
        ("must", False, True, "checkpoints and no config.json"),
        ("never", False, False, None),
        ("never", True, False, "holds a run already"),
        ("never", True, True, "holds a run already"),
        ("never", False, True, "holds a run already"),
        ("perhaps", False, False, "--resume is 'perhaps'; it must be one of auto, must, never"),
    ],
)
def test_resuming_on_demand(wanted, begun, saved, complaint, tmp_path):
    if begun:
        (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / ("12" if saved else "unfinished-12")).mkdir(parents=True)
    if complaint is None:
        resume.check_resume(tmp_path, wanted)
        return
    with pytest.raises(InputError, match=complaint):
        resume.check_resume(tmp_path, wanted)


def test_scoring_changed_data_as_the_runs_own_is_refused(workdir):
    assert resume.check_files(workdir, data_sets.of(DIGESTS)) == []
    with pytest.raises(InputError, match=r"trained on other data: .*--data=DIR:\n  b/b_1\.tif: has another content"):
        resume.check_files(workdir, data_sets.of(DIGESTS | {Path("b/b_1.tif"): (4, "9" * 64)}, fingerprint="xyz"))
    # The same files, decoded otherwise.
    [line] = resume.check_files(workdir, data_sets.of(DIGESTS, fingerprint="xyz"))
    assert "another version of the program" in line
    (workdir / "data.json").unlink()
    [line] = resume.check_files(workdir, data_sets.of(DIGESTS))
    assert line.endswith("has no data.json: the data were compared by their fingerprint alone.")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "7",
        '{"a.tif": 3}',
        '{"a.tif": {"bytes": 1}}',
        '{"../../etc/passwd": {"bytes": 1, "sha256": ""}}',
        '{"/dev/zero": {"bytes": 1, "sha256": ""}}',
        '{"channels": 3}',
        '{"channels": 3, "files": []}',
        '{"channels": 3, "files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}',
    ],
)
def test_a_list_of_files_that_is_none_or_leads_elsewhere_is_refused(content, workdir):
    (workdir / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"data\.json is not (a list of files|a description of data)"):
        resume.read_files(workdir)
