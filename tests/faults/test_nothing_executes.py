"""A run's folder and the decode cache may be somebody else's: whatever lies there, nothing of it is executed."""

import ast
import contextlib
import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from unet_jax.data import cache
from unet_jax.data.formats import lgg
from unet_jax.errors import RunError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference.network import load_network
from unet_jax.run import checkpoint_folder, manifest
from unet_jax.run.config import read_config
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training.train import train

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "main.py", *sorted((ROOT / "unet_jax").rglob("*.py"))]

# Packages that execute what they load, and functions that do.
PACKAGES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "runpy"}
FUNCTIONS = {"eval", "exec", "compile", "__import__", "execfile"}
ATTRIBUTES = {"os.system", "os.popen", "importlib.import_module", "yaml.load", "yaml.unsafe_load"}
# Loaders that execute unless they are told not to.
TOLD = {"np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}


def _faults(source: str) -> list[str]:
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            faults += [f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in PACKAGES]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FUNCTIONS | ATTRIBUTES:
                faults.append(f"line {node.lineno}: {name}")
            if name in TOLD:
                keyword, value = TOLD[name]
                given = {key.arg: ast.unparse(key.value) for key in node.keywords}
                if given.get(keyword) != str(value):
                    faults.append(f"line {node.lineno}: {name} without {keyword}={value}")
    return faults


def test_the_scan_finds_what_it_looks_for():
    source = (
        "import pickle\nfrom dill import x\neval('1')\nnp.load(f)\ntorch.load(f, weights_only=False)\nos.system('')"
    )
    assert len(_faults(source)) == 6
    assert _faults("import re\nre.compile('x')\nnp.load(f, allow_pickle=False)\ntorch.load(f, weights_only=True)") == []


# Reads PyTorch's files by an unpickler of its own, which makes nothing but what its list names: see its tests.
RESTRICTED = ROOT / "unet_jax/models/pretrained/torch_file.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_loads_what_could_execute(path):
    faults = [fault for fault in _faults(path.read_text()) if path != RESTRICTED or not fault.endswith(": pickle")]
    assert faults == []


def test_the_restricted_unpickler_is_all_that_is_used_of_pickle():
    tree = ast.parse(RESTRICTED.read_text())
    [unpickler] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Unpickler"]
    assert {"find_class", "persistent_load"} <= {node.name for node in unpickler.body}
    assert [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)].count(
        "pickle.Unpickler"
    ) == RESTRICTED.read_text().count("pickle.")


class Canary:
    """Whoever unpickles it makes the folder."""

    def __init__(self, cage):
        self.cage = str(cage)

    def __reduce__(self):
        return os.mkdir, (self.cage,)


@pytest.fixture(scope="module")
def honest(settings, configure, tmp_path_factory):
    """A run's folder, with the decode cache in it."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    train(configure(settings | {"train.epochs": 1, "data.cache": str(folder / "cache")}), folder)
    return folder


@pytest.fixture
def theirs(honest, tmp_path, monkeypatch):
    """A copy of it that may be spoilt; the current folder is another one, and no compiled program is at hand."""
    folder = tmp_path / "theirs"
    shutil.copytree(honest, folder)
    change(folder, "data.cache", str(folder / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def change(folder, key, value):
    path = folder / "config.json"
    config = read_json(path)
    *groups, name = key.split(".")
    tree = config
    for group in groups:
        tree = tree[group]
    tree[name] = value
    write_sealed_json(path, config)  # who spoils it can seal it, too


def song(tmp_path):
    return pickle.dumps(Canary(tmp_path / "sung"))


def outside(tmp_path):
    """All there is besides the run's folder."""
    return sorted(path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "theirs"))


def score(folder):
    return evaluate(folder)


def test_the_canary_sings_when_it_is_unpickled(tmp_path):
    pickle.loads(song(tmp_path))
    assert (tmp_path / "sung").exists()


def test_pickles_in_the_decode_cache_are_not_loaded(theirs, tmp_path):
    config = read_config(theirs)
    [decoded] = (theirs / "cache").glob("*.pools-1")
    whole = {path: path.read_bytes() for path in decoded.iterdir()}
    pickled_array = io.BytesIO()
    np.save(pickled_array, np.array([Canary(tmp_path / "sung")], object), allow_pickle=True)
    assert sorted(path.name for path in whole) == ["index.jsonl", "pool-0000.bin"]
    for path in whole:
        for content in (song(tmp_path), pickled_array.getvalue()):
            path.write_bytes(content)
            cache.load(lgg, Path(config.data.root), theirs / "cache")
            assert {path: path.read_bytes() for path in decoded.iterdir()} == whole
    assert outside(tmp_path) == [tmp_path / "here"]


def test_pickles_in_a_checkpoint_are_not_loaded_even_with_a_manifest_that_fits(theirs, tmp_path):
    config = read_config(theirs)
    checkpoints = theirs / "checkpoints"
    [*older, newest] = checkpoint_folder.steps(checkpoints)
    for step in older:
        shutil.rmtree(checkpoints / str(step))
    folder = checkpoints / str(newest)
    facts = manifest.read_manifest(folder)
    del facts["files"]
    manifest.write_manifest(folder, facts)
    load_network(theirs, config, data_mesh())
    files = sorted(path for path in (folder / "model").rglob("*") if path.is_file())
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(song(tmp_path))
        manifest.write_manifest(folder, facts)
        with contextlib.suppress(Exception):  # some of these files are not read
            load_network(theirs, config, data_mesh())
        path.write_bytes(whole)
    assert outside(tmp_path) == [tmp_path / "here"]


@pytest.mark.parametrize("name", ["config.json", "split.json", "data.json"])
def test_pickles_in_the_place_of_json_are_refused(name, theirs, tmp_path):
    (theirs / name).write_bytes(song(tmp_path))
    if name == "data.json":  # read when the fingerprint differs
        change(theirs, "data_fingerprint", "other")
    with pytest.raises(RunError, match=name):
        score(theirs)
    assert outside(tmp_path) == [tmp_path / "here"]


@pytest.mark.parametrize(
    "key", ["data.root", "model.name", "model.norm", "model.up", "model.dtype", "seed", "phantom.slices"]
)
def test_text_that_looks_like_a_program_is_text(key, theirs, tmp_path):
    change(theirs, key, f"../__import__('os').mkdir({str(tmp_path / 'sung')!r})")
    with pytest.raises(RunError):
        score(theirs)
    assert outside(tmp_path) == [tmp_path / "here"]


def test_paths_in_a_runs_config_have_nothing_written_elsewhere(theirs, tmp_path):
    for root in ("../escaped", str(tmp_path / "escaped")):
        change(theirs, "data.root", root)
        change(theirs, "phantom.root", root)
        with pytest.raises(RunError, match="the run's data are not there"):
            score(theirs)
    assert outside(tmp_path) == [tmp_path / "here"]


@pytest.mark.parametrize("name", ["evaluation", "checkpoints", "evaluation/test", "config.json", ".lock"])
def test_links_in_a_runs_folder_have_nothing_written_elsewhere(name, theirs, tmp_path):
    victim = tmp_path / "here" / "victim"
    if (theirs / name).is_file():
        victim.write_bytes((theirs / name).read_bytes())
        (theirs / name).unlink()
    else:
        victim.mkdir()
        shutil.rmtree(theirs / name, ignore_errors=True)
    (theirs / name).symlink_to(victim)
    with pytest.raises(RunError, match=f"{name}: this link leads out of the run's folder"):
        score(theirs)
    assert outside(tmp_path) == [tmp_path / "here", victim]
