import json

import pytest
from ml_collections import ConfigDict

from configs import default
from unet_jax.errors import DamageError, InputError
from unet_jax.files import write_json
from unet_jax.run import folder as run_folder


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def _write(workdir, change=None, **keys):
    config = json.loads(json.dumps(default.get_config().to_dict())) | {"data_fingerprint": "abc"} | keys
    for key in change or {}:
        *groups, name = key.split(".")
        tree = config
        for group in groups:
            tree = tree[group]
        tree[name] = change[key]
    write_json(workdir / "config.json", config)


def test_a_runs_config_is_read_as_it_was_written(workdir):
    _write(workdir, {"model.width": 3, "eval.threshold": 1, "optim.clip_norm": None})
    config = run_folder.read_config(workdir, default.get_config())
    assert config.model.width == 3
    assert config.eval.threshold == 1
    assert config.optim.clip_norm is None
    assert config.phantom.slices == [20, 28]
    assert run_folder.read_config(workdir).model.to_dict() == config.model.to_dict()


def test_keys_that_are_newer_than_the_run_have_their_defaults(workdir):
    _write(workdir, model={"name": "fpn"}, eval={"threshold": 0.25})
    config = run_folder.read_config(workdir, default.get_config())
    assert config.eval.threshold == 0.25
    assert config.eval.postprocess.to_dict() == {"minimum_voxels": 0, "largest_component": False}
    # A network has options of its own: those of the default network are none of its.
    assert config.model.to_dict() == {"name": "fpn"}


def test_unknown_keys_and_values_of_another_kind_are_all_listed(workdir):
    _write(
        workdir,
        {"eval.threshold": "__import__('os')", "train.batch_size": 1.5, "model.width": [1], "data.colour": 1},
        evil=3,
    )
    with pytest.raises(InputError) as error:
        run_folder.read_config(workdir, default.get_config())
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{workdir}/config.json: config.") for line in lines)
    assert [line.split("config.")[2] for line in lines] == [
        "data.colour is no key of this version of the program: use the one that made the run.",
        """eval.threshold is "__import__('os')", and must be of the kind of 0.5: restore the file.""",
        "evil is no key of this version of the program: use the one that made the run.",
        "model.width is [1], and must be of the kind of 64: restore the file.",
        "train.batch_size is 1.5, and must be of the kind of 32: restore the file.",
    ]


@pytest.mark.parametrize("content", ["[]", "3", '"x"', '{"__class__": {"x": 1}}', '{"a": 1, "a.b": 2}'])
def test_what_is_no_config_is_refused(content, workdir):
    (workdir / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json is no config"):
        run_folder.read_config(workdir)


def test_compiled_programs_are_never_taken_from_where_a_run_says(workdir):
    """They are machine code: a run's folder could bring its own."""
    _write(workdir, {"train.compilation_cache": str(workdir / "compiled")})
    assert run_folder.read_config(workdir).train.compilation_cache is None
    ours = default.get_config()
    assert run_folder.read_config(workdir, ours).train.compilation_cache == ours.train.compilation_cache


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


def test_flatten_joins_keys_with_dots():
    tree = {"a": {"b": 1, "c": {"d": [2, 3]}}, "e": None}
    assert flatten(tree) == {"a.b": 1, "a.c.d": [2, 3], "e": None}


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
