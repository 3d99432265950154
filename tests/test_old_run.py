"""Runs that an earlier version made: see golden/make_old_run.py. Only what users see of the program is used."""

import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import make_old_run as golden

import unet_jax
from unet_jax.command_line import parse, program

NAMES = ("stopped", "finished")
EXPECTED = json.loads((golden.FOLDER / "expected.json").read_text())
# Sums of float32 in another order; a mask is the same to the bit.
TOLERANCE = {"rel": 1e-5, "abs": 1e-6}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(golden.FOLDER / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> dict[str, Path]:
    """Folders with `run` and `scans`, by name."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in folders.items():
        with tarfile.open(golden.FOLDER / f"{name}.tar.xz") as file:
            file.extractall(folder, filter="data")
    return folders


@pytest.fixture
def command(unpacked, monkeypatch, capsys) -> Callable[..., None]:
    """`python main.py …`, started beside `run` and `scans`, which has to end well and without a warning."""

    def run(name: str, *flags: str) -> None:
        monkeypatch.chdir(unpacked[name])
        # Else jax would be told, for all tests of this process, to divide the CPU.
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
        parse.FLAGS.unparse_flags()
        parse.parse_flags(["main.py", *flags])
        check_ended_well(program.main([]), capsys.readouterr().err)

    yield run
    parse.FLAGS.unparse_flags()


def train(folder: Path, *flags: str) -> None:
    """In a process of its own: flags that set keys of a config stay in a process for ever."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(golden.PROJECT)}
    done = subprocess.run(
        golden.command(golden.RECIPE, *flags), cwd=folder, env=environment, capture_output=True, text=True
    )
    check_ended_well(done.returncode, done.stderr)


def check_ended_well(code: int, stderr: str) -> None:
    assert (code, [line for line in stderr.splitlines() if line.startswith(("error:", "warning:"))]) == (0, []), stderr


def check_scores(workdir: Path, side: str, expected: dict) -> None:
    """All numbers that the old version wrote; there may be more."""
    found = golden.scores(workdir, side)
    check_record(found["metrics"], expected["metrics"])
    for case, row in zip(found["cases"], expected["cases"], strict=True):
        check_record(case, row)


def check_record(found: dict, expected: dict) -> None:
    for key, value in expected.items():
        wanted = value if isinstance(value, str) or value is None else pytest.approx(value, **TOLERANCE)
        assert found.get(key, "missing") == wanted, (key, expected)


@pytest.mark.parametrize("side", ["val", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_it_evaluates_to_the_same_numbers(name, side, command, unpacked):
    command(name, "--mode=evaluate", f"--split={side}", "--workdir=run")
    check_scores(unpacked[name] / "run", side, EXPECTED[name][side])


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_the_same_masks(name, command, arrays, tmp_path):
    command(name, "--mode=predict", "--workdir=run", "--input=scans", f"--output={tmp_path}")
    names, masks = golden.masks_in(tmp_path)
    assert names == EXPECTED[name]["masks"]
    np.testing.assert_array_equal(masks, arrays[f"{name}/masks"])


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_as_the_same_function(name, unpacked, arrays):
    segment = unet_jax.load(unpacked[name] / "run")
    image = arrays[f"{name}/image"]
    np.testing.assert_allclose(segment.probabilities(image)[1], arrays[f"{name}/probability"], atol=1e-5)
    np.testing.assert_array_equal(segment(image), arrays[f"{name}/mask"])


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_the_same_function(name, command, arrays, tmp_path):
    command(name, "--mode=export", "--workdir=run", f"--output={tmp_path / 'network.zip'}")
    with zipfile.ZipFile(tmp_path / "network.zip") as file:
        facts = json.loads(file.read("metadata.json"))
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    assert {key: facts[key] for key in EXPECTED[name]["export"]} == EXPECTED[name]["export"]
    image = golden.as_input(arrays[f"{name}/export/pattern"], facts["input"]["dtype"])
    np.testing.assert_allclose(program.call(image), arrays[f"{name}/export/probability"], atol=1e-5)


def test_a_stopped_run_is_trained_to_the_end_it_would_have_had(unpacked):
    expected, workdir = EXPECTED["stopped"], unpacked["stopped"] / "resumed"
    shutil.copytree(unpacked["stopped"] / "run", workdir)
    train(unpacked["stopped"], *expected["flags"], "--workdir=resumed", "--resume=must")
    history = [golden.numbers(record) for record in golden.history(workdir)]
    assert len(history) == len(expected["history"])
    assert sum(record["step"] > expected["stopped_after"] for record in history) > 3
    for found, record in zip(history, expected["history"], strict=True):
        check_record(found, record)
    check_scores(workdir, "test", expected["resumed"])


def test_a_finished_run_is_known_as_finished(unpacked):
    expected, workdir = EXPECTED["finished"], unpacked["finished"] / "run"
    before = (workdir / "history.jsonl").read_bytes()
    train(unpacked["finished"], *expected["flags"], "--workdir=run")
    assert (workdir / "history.jsonl").read_bytes() == before
    check_scores(workdir, "test", expected["test"])
