import json
import re

import pytest

from configs import default
from unet_jax.errors import InputError
from unet_jax.files import write_json
from unet_jax.run.config import default_config, flatten, read_config


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
    config = read_config(workdir)
    assert config.model.width == 3
    assert config.eval.threshold == 1
    assert config.optim.clip_norm is None
    assert config.phantom.slices == [20, 28]


def test_what_the_command_says_of_flips_and_tiles_takes_the_runs_place(workdir):
    for own in (True, False):
        _write(workdir, {"eval.tta": own, "eval.tiles": own})
        for given, expected in ((None, own), (True, True), (False, False)):
            assert read_config(workdir, flips=given).eval.tta is expected
            assert read_config(workdir, tiles=given).eval.tiles is expected
            assert read_config(workdir, flips=given).eval.tiles is own


def test_a_threshold_that_the_run_has_chosen_takes_the_configs_place(workdir):
    _write(workdir, {"eval.choose_threshold": True, "eval.threshold": 0.25})
    assert read_config(workdir).eval.threshold == 0.25  # not trained to its end yet
    write_json(workdir / "threshold.json", {"threshold": 0.6})
    assert read_config(workdir).eval.threshold == 0.6
    for content in ({"threshold": 1.0}, {"threshold": "0.5"}, {}, [0.5]):
        write_json(workdir / "threshold.json", content)
        with pytest.raises(InputError, match=r"threshold\.json has no threshold between 0 and 1"):
            read_config(workdir)
    _write(workdir, {"eval.choose_threshold": False, "eval.threshold": 0.25})
    assert read_config(workdir).eval.threshold == 0.25


def test_keys_that_are_newer_than_the_run_have_their_defaults(workdir):
    _write(workdir, model={"name": "fpn"}, eval={"threshold": 0.25})
    config = read_config(workdir)
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
        read_config(workdir)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{workdir}/config.json: config.") for line in lines)
    assert [line.split("config.")[2] for line in lines] == [
        "data.colour is not a key of this version of the program: use the one that made the run.",
        """eval.threshold is "__import__('os')", and must be of the kind of 0.5: restore the file.""",
        "evil is not a key of this version of the program: use the one that made the run.",
        "model.width is [1], and must be of the kind of 64: restore the file.",
        "train.batch_size is 1.5, and must be of the kind of 32: restore the file.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "config.json is not a config"),
        ("3", "config.json is not a config"),
        ('"x"', "config.json is not a config"),
        ('{"__class__": {"x": 1}}', "config.json: config.__class__.x is not a key"),
        ('{"a": 1, "a.b": 2}', "config.json: config.a is not a key"),
        # A network's options are its own.
        ('{"model": {"__class__": {"x": 1}}}', "config.json is not a config"),
        ('{"model": {"a": 1, "a.b": 2}}', "config.json is not a config"),
    ],
)
def test_what_is_no_config_is_refused(content, message, workdir):
    (workdir / "config.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        read_config(workdir)


def test_compiled_programs_are_never_taken_from_where_a_run_says(workdir):
    """They are machine code: a run's folder could bring its own."""
    _write(workdir, {"train.compilation_cache": str(workdir / "compiled")})
    ours = default.get_config().train.compilation_cache
    assert read_config(workdir).train.compilation_cache == ours != str(workdir / "compiled")


def test_the_programs_own_config_is_that_of_the_file_that_explains_it_and_new_each_time():
    assert default_config().to_dict() == default.get_config().to_dict()
    default_config().train.epochs = 1
    assert default_config().train.epochs == default.get_config().train.epochs


def test_flatten_joins_keys_with_dots():
    tree = {"a": {"b": 1, "c": {"d": [2, 3]}}, "e": None}
    assert flatten(tree) == {"a.b": 1, "a.c.d": [2, 3], "e": None}
