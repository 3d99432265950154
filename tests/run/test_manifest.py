"""Faults put into a real run's checkpoints: each is named, and the last good checkpoint is used instead."""

import os
import shutil
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from faults import flip_bits

from unet_jax.errors import DamageError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.files import read_json
from unet_jax.run import checkpoint, checkpoint_folder
from unet_jax.run import manifest as integrity
from unet_jax.run.history import read as read_history
from unet_jax.training.train import train


@pytest.fixture(scope="module")
def config(settings, configure):
    return configure(settings)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    train(config, workdir)
    return workdir


@pytest.fixture
def copied(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


def _damage(folder, step, number=0):
    """Cuts the last byte of a checkpoint's file and returns its name."""
    path = sorted((folder / str(step)).rglob("ocdbt.process_0/d/*"))[number]
    path.write_bytes(path.read_bytes()[:-1])
    return path.relative_to(folder).as_posix()


def _arrays(workdir, step):
    """As orbax reads them, by itself."""
    return ocp.PyTreeCheckpointer().restore((workdir / "checkpoints" / str(step) / "model").absolute())


def test_none_of_thirty_faults_goes_unnoticed(copied):
    counts, missed = flip_bits.count(copied / "checkpoints", faults=30, seed=1)
    assert missed == []
    columns = Counter()
    for (_, column), number in counts.items():
        columns[column] += number
    assert columns["found"] == 30
    assert min(columns[kind] for kind in flip_bits.KINDS) > 3


def test_without_verification_flipped_bits_go_unnoticed(tmp_path):
    """What the test above is worth. Arrays over 1 KB lie in files of their own, and those have no checksum."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 16, 32)).astype(np.float32)
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"model": {"params": {"kernel": kernel * step}, "batch_stats": {}}}, None)
    like = flip_bits.likeness(tmp_path)
    whole = {step: integrity.read_manifest(tmp_path / str(step))["leaves"]["model"] for step in (1, 2)}
    data = max((tmp_path / "2").rglob("d/*"), key=lambda path: path.stat().st_size)
    name = data.relative_to(tmp_path).as_posix()
    rng, came_to = np.random.default_rng(0), Counter()
    for _ in range(15):
        with flip_bits.damaged(data, "flip", rng):
            assert flip_bits.outcome(tmp_path, like, name, whole) == "found"
            came_to[flip_bits.unverified(tmp_path, like, whole)] += 1
            with flip_bits.verification_switched_off():
                assert flip_bits.outcome(tmp_path, like, name, whole) != "found"
    assert came_to["silently other"] > 10


@pytest.mark.parametrize("kind", flip_bits.KINDS)
def test_every_file_of_a_checkpoint_is_covered(copied, kind):
    folder = copied / "checkpoints" / str(checkpoint_folder.steps(copied / "checkpoints")[-1])
    rng = np.random.default_rng(2)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        with flip_bits.damaged(path, kind, rng):
            [fault] = integrity.faults(folder, integrity.read_manifest(folder))
            assert fault.startswith(f"{folder.name}/{path.relative_to(folder)} ")
    assert integrity.faults(folder, integrity.read_manifest(folder)) == []


def test_every_single_bit_of_a_manifest_counts(tmp_path):
    (tmp_path / "file").write_bytes(b"a")
    integrity.write_manifest(tmp_path, {"step": 1, "score": 0.1 + 0.2})
    path = tmp_path / "manifest.json"
    raw = path.read_bytes()
    assert integrity.read_manifest(tmp_path)["score"] == 0.1 + 0.2
    for place in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert integrity.read_manifest(tmp_path) is None, (place, flipped)
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        assert integrity.read_manifest(tmp_path) is None


def test_what_stands_in_a_files_place_is_not_opened(tmp_path):
    folder, outside = tmp_path / "1", tmp_path / "outside"
    folder.mkdir()
    for name in "abcd":
        (folder / name).write_bytes(b"data")
    integrity.write_manifest(folder, {"step": 1})
    manifest = integrity.read_manifest(folder)
    (folder / "a").rename(outside)
    (folder / "a").symlink_to(outside)
    (folder / "b").unlink()
    os.mkfifo(folder / "b")
    (folder / "c").unlink()
    (folder / "c").mkdir()
    assert integrity.faults(folder, manifest) == [
        "1/a is not a regular file",
        "1/b is not a regular file",
        "1/c is missing",
    ]
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert integrity.faults(folder, manifest) == ["1 is not a folder"]


def test_names_in_a_manifest_lead_nowhere(tmp_path):
    folder, secret = tmp_path / "1", tmp_path / "secret"
    folder.mkdir()
    secret.write_bytes(b"data")
    manifest = {"files": {name: {"bytes": 4, "sha256": ""} for name in ("../secret", str(secret))}}
    assert integrity.faults(folder, manifest) == ["1/../secret is missing", f"1/{secret} is missing"]


def test_arrays_are_told_apart_by_type_shape_and_bytes():
    arrays = [
        jnp.zeros(4),
        jnp.zeros((2, 2)),
        jnp.zeros(4, jnp.int32),
        jnp.zeros(8, jnp.bfloat16),
        jnp.float32(0),
        jnp.zeros(4).at[0].set(-0.0),
        jnp.arange(6.0).reshape(2, 3),
        jnp.arange(6.0).reshape(2, 3).T,
    ]
    digests = [integrity.leaf_digests({"a": array}) for array in arrays]
    assert all(one != other for position, one in enumerate(digests) for other in digests[:position])
    # of four zero bytes, by sha256sum
    zero = "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119"
    assert digests[4] == {"a": {"dtype": "float32", "shape": [], "sha256": zero}}


def test_evaluating_uses_the_last_good_checkpoint_says_so_and_changes_nothing(copied, capsys):
    before = evaluate(copied)
    folder = copied / "checkpoints"
    best = before["checkpoint_step"]
    assert (before["checkpoint"], before["damaged_checkpoints"]) == ("best", [])
    name = _damage(folder, best)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    good = max(step for step in checkpoint_folder.steps(folder) if step != best)
    capsys.readouterr()

    metrics = evaluate(copied)
    assert metrics == read_json(copied / "evaluation" / "test" / "metrics.json")
    assert (metrics["checkpoint"], metrics["checkpoint_step"]) == ("last good", good)
    [found] = metrics["damaged_checkpoints"]
    assert (found["step"], len(found["faults"])) == (best, 1)
    assert found["faults"][0].startswith(f"{name} has ")
    printed = capsys.readouterr()
    line = f"checkpoint {best} in {folder} is damaged: {found['faults'][0]}; step {good}, the newest that is whole"
    assert line in printed.out
    assert line in printed.err
    assert len(printed.err.splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_training_goes_on_from_the_last_good_checkpoint_as_if_there_had_been_no_other(run, copied, config, capsys):
    folder = copied / "checkpoints"
    *_, good, newest = checkpoint_folder.steps(folder)
    name = _damage(folder, newest)
    shutil.copytree(folder / str(newest), copied / "as it was")
    capsys.readouterr()
    train(config, copied)
    printed = capsys.readouterr()
    assert f"warning: checkpoint {newest} in {folder} is damaged: {name} has " in printed.err
    assert f"step {good}, the newest that is whole, is used." in printed.err
    assert f"Resuming from step {good}" in printed.out

    def history(workdir):
        return [
            {key: record[key] for key in ("step", "epoch", "loss") if key in record} for record in read_history(workdir)
        ]

    assert history(copied) == [
        {**record, "loss": pytest.approx(record["loss"])} if "loss" in record else record for record in history(run)
    ]
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5),
        _arrays(copied, newest),
        _arrays(run, newest),
    )
    kept = {path.relative_to(folder / f"damaged-{newest}") for path in (folder / f"damaged-{newest}").rglob("*")}
    assert kept == {path.relative_to(copied / "as it was") for path in (copied / "as it was").rglob("*")}


def test_nothing_is_trained_or_scored_when_no_checkpoint_is_whole(copied, config):
    folder = copied / "checkpoints"
    names = [_damage(folder, step) for step in checkpoint_folder.steps(folder)]
    files = {path: path.read_bytes() for path in [*folder.rglob("*"), copied / "history.jsonl"] if path.is_file()}
    for act in (lambda: evaluate(copied), lambda: train(config, copied)):
        with pytest.raises(DamageError, match=r"No checkpoint in .* is whole") as error:
            act()
        assert [line.split()[0] for line in str(error.value).splitlines()[1:]] == names
    assert {path: path.read_bytes() for path in files} == files
