import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax.errors import DamageError, InputError, StorageError
from unet_jax.run import checkpoint, checkpoint_folder
from unet_jax.runtime import mesh

REPLICATED = mesh.replicated(mesh.data_mesh())
OPTIMIZER = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(optax.constant_schedule(0.1)))


def _items(seed):
    """Trees such as a training state's, of random numbers."""
    rng = np.random.default_rng(seed)

    def array(*shape, dtype=jnp.float32):
        return jnp.asarray(rng.normal(size=shape), dtype)

    params = {"encoder": {"0": {"kernel": array(3, 3, 2)}}, "head": {"bias": array(4, dtype=jnp.bfloat16)}}
    opt_state = jax.tree.map(lambda x: x + array().astype(x.dtype), OPTIMIZER.init(params))
    return {
        "model": {"params": params, "batch_stats": {}},
        "training": {"step": jnp.int32(seed), "opt_state": opt_state},
    }


def _save(folder, *steps_and_scores):
    for step, score in steps_and_scores:
        checkpoint.save(folder, step, _items(step), score)


def _restore(folder, wanted="newest"):
    return checkpoint.restore(folder, wanted, checkpoint.on_devices(_items(0), REPLICATED))


def _assert_restored(restored, step):
    saved = _items(step)
    assert restored.step == step
    assert jax.tree.structure(restored.items) == jax.tree.structure(saved)
    for one, other in zip(jax.tree.leaves(restored.items), jax.tree.leaves(saved), strict=True):
        assert one.dtype == other.dtype
        assert one.sharding == REPLICATED
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def _best(folder):
    restored = _restore(folder, "best")
    return restored.step if restored else None


def _damage(folder, step):
    """Flips a bit of the largest file of a checkpoint and returns its name."""
    path = max((folder / str(step)).rglob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    return path.relative_to(folder).as_posix()


@pytest.fixture
def folder(tmp_path):
    checkpoint.prepare(tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with three checkpoints, the first of them the best, for tests that only read or copy it."""
    folder = tmp_path_factory.mktemp("saved")
    _save(folder, (1, 0.5), (2, 0.3), (3, None))
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copied"))


@pytest.mark.parametrize(
    ("scores", "kept", "best"),
    [
        ([0.1, 0.2, 0.3], [2, 3], 3),
        ([0.3, 0.2, 0.1, 0.1], [1, 3, 4], 1),
        ([0.1, 0.3, 0.2, None, None], [2, 4, 5], 2),
        ([None, None, None], [2, 3], None),
        ([None, 0.0, None], [2, 3], 2),
        ([0.5, 0.5, 0.5, 0.5], [1, 3, 4], 1),  # the earliest of equals, from which early stopping counts
        ([0.0, 0.0, 0.5, 0.5, 0.4, 0.4], [3, 5, 6], 3),
    ],
)
def test_the_newest_two_and_the_best_are_kept(folder, scores, kept, best):
    _save(folder, *enumerate(scores, 1))
    assert sorted(int(path.name) for path in folder.iterdir()) == kept
    assert (_restore(folder).step, _best(folder)) == (len(scores), best)


def test_what_is_restored_is_what_was_saved_to_the_bit(saved):
    _assert_restored(_restore(saved), 3)
    best = _restore(saved, "best")
    _assert_restored(best, 1)
    assert best.as_wanted
    assert best.damaged == {}


def test_saving_keeps_a_copy_of_its_own(folder):
    """The state's memory is donated to the next step as soon as `save` returns."""
    items = jax.tree.map(jnp.copy, _items(1))
    checkpoint.save(folder, 1, items, 0.5)
    for leaf in jax.tree.leaves(items):
        leaf.delete()
    _assert_restored(_restore(folder), 1)


def test_a_step_that_is_saved_again_is_replaced(folder):
    _save(folder, (1, 0.9), (2, None))
    assert _best(folder) == 1
    _save(folder, (2, 1.0))
    assert checkpoint_folder.steps(folder) == [1, 2]
    assert _best(folder) == 2


def test_the_model_alone_can_be_restored(saved):
    model = _items(1)["model"]
    restored = checkpoint.restore(saved, "best", {"model": checkpoint.on_devices(model, REPLICATED)})
    assert list(restored.items) == ["model"]
    jax.tree.map(np.testing.assert_array_equal, restored.items["model"], model)


def test_every_leaf_that_does_not_fit_is_named(saved):
    like = _items(1)
    params = like["model"]["params"]
    params["encoder"]["0"] = {"kernel": jnp.zeros((3, 3, 8)), "bias": jnp.zeros(8)}
    params["head"] = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(4)}
    with pytest.raises(InputError) as error:
        checkpoint.restore(saved, "best", checkpoint.on_devices(like, REPLICATED))
    head, *faults = str(error.value).splitlines()
    assert f"{saved}/1, model does not fit" in head
    assert faults == [
        "  params/encoder/0/bias: found nothing, needed float32 (8,)",
        "  params/encoder/0/kernel: found float32 (3, 3, 2), needed float32 (3, 3, 8)",
        "  params/head/bias: found bfloat16 (4,), needed float32 (4,)",
        "  params/head/kernel: found nothing, needed float32 (2, 2)",
    ]


def test_a_leaf_that_nobody_asked_for_is_named(saved):
    like = _items(1)
    del like["training"]["opt_state"][0].mu["head"]
    with pytest.raises(InputError, match="training does not fit") as error:
        checkpoint.restore(saved, "best", checkpoint.on_devices(like, REPLICATED))
    [fault] = str(error.value).splitlines()[1:]
    assert fault == "  opt_state/0/mu/head/bias: found bfloat16 (4,), needed nothing"


def test_the_last_good_one_is_used_instead_of_a_damaged_one_and_said(copied):
    name = _damage(copied, 3)
    restored = _restore(copied)
    _assert_restored(restored, 2)
    assert not restored.as_wanted
    assert restored.damaged == {3: [f"{name} is not what was written (SHA-256)"]}
    assert checkpoint.warnings(copied, restored) == [
        f"checkpoint 3 in {copied} is damaged: {name} is not what was written (SHA-256); step 2, the newest that is "
        "whole, is used."
    ]
    # The best is whole: the damage of another does not change which is used, but it is said.
    best = _restore(copied, "best")
    _assert_restored(best, 1)
    assert best.as_wanted
    assert list(best.damaged) == [3]


def test_without_the_best_the_newest_that_is_whole_is_used(copied):
    _damage(copied, 1)
    restored = _restore(copied, "best")
    _assert_restored(restored, 3)
    assert not restored.as_wanted
    shutil.rmtree(copied / "1")
    gone = _restore(copied, "best")
    _assert_restored(gone, 3)
    assert gone.damaged == {1: ["1 is missing"]}


def test_every_fault_is_listed_when_none_is_whole(copied):
    names = [_damage(copied, step) for step in (1, 2, 3)]
    (copied / "2" / "manifest.json").unlink()
    with pytest.raises(DamageError) as error:
        _restore(copied)
    head, *faults = str(error.value).splitlines()
    assert f"No checkpoint in {copied} is whole" in head
    assert faults == [
        f"  {names[0]} is not what was written (SHA-256)",
        "  2/manifest.json is missing",
        f"  {names[2]} is not what was written (SHA-256)",
    ]


def test_damaged_ones_are_set_aside_and_their_steps_can_be_saved_again(copied):
    before = {}
    for number in (1, 2):
        _damage(copied, 3)
        before[number] = sorted(path.name for path in (copied / "3").rglob("*"))
        checkpoint.set_aside(copied, _restore(copied).damaged)
        assert _restore(copied).step == 2
        _save(copied, (3, None))
        _assert_restored(_restore(copied), 3)
    for number, name in ((1, "damaged-3"), (2, "damaged-3.2")):
        assert sorted(path.name for path in (copied / name).rglob("*")) == before[number]


def test_an_array_that_was_damaged_on_its_way_to_the_files_is_found(folder, monkeypatch):
    """As by faulty memory: the files are as they were written, and what was written is wrong."""
    _save(folder, (1, 0.5))
    digests = checkpoint.manifest.leaf_digests

    def of_another(tree):
        return digests(jax.tree.map(lambda x: np.where(x == np.max(x), 0, x).astype(x.dtype), tree))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.manifest, "leaf_digests", of_another)
        _save(folder, (2, None))
    restored = _restore(folder)
    _assert_restored(restored, 1)
    assert "2/model: the array params/encoder/0/kernel is not what was saved (SHA-256)" in restored.damaged[2]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What the folder looks like at each moment at which the third of three saves could be killed."""
    folder = tmp_path_factory.mktemp("killed")
    moments, rename, rmtree = [], os.rename, shutil.rmtree

    def copy():
        moments.append(folder / f"moment{len(moments)}")
        shutil.copytree(folder / "checkpoints", moments[-1])

    def rename_between_copies(source, target):
        copy()
        rename(source, target)
        copy()

    def remove_half(path):
        (path / "manifest.json").unlink()
        copy()
        rmtree(path)

    checkpoint.prepare(folder / "checkpoints")
    _save(folder / "checkpoints", (1, 0.5), (2, 0.4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename_between_copies)
        patch.setattr(shutil, "rmtree", remove_half)
        _save(folder / "checkpoints", (3, 0.9))
    return moments


def test_a_save_that_was_killed_leaves_the_one_before_or_is_complete(killed, tmp_path):
    found = []
    for moment in killed:
        folder = Path(shutil.copytree(moment, tmp_path / moment.name))
        checkpoint.prepare(folder)
        assert all(path.name.isdigit() for path in folder.iterdir())
        restored = _restore(folder)
        found.append(restored.step)
        assert restored.damaged == {}
        _assert_restored(restored, restored.step)
        assert _best(folder) == {2: 1, 3: 3}[restored.step]
        _save(folder, (3, 0.9))
        _assert_restored(_restore(folder), 3)
        assert checkpoint_folder.steps(folder) == [2, 3]
    # Files of two items are renamed by orbax, the checkpoint by itself, and the one before is renamed and deleted.
    assert found == [2] * 4 + [3] * 5


def test_reading_does_not_disturb_a_save_that_is_under_way(killed):
    for moment in killed:
        before = sorted(moment.rglob("*"))
        restored = _restore(moment)
        assert restored.damaged == {}
        _assert_restored(restored, 3 if (moment / "3").exists() else 2)
        assert sorted(moment.rglob("*")) == before


def test_reading_while_another_process_saves_finds_nothing_damaged(folder):
    _save(folder, (1, 0.1), (2, 0.2))
    saving = threading.Thread(target=_save, args=(folder, *((step, step / 10) for step in range(3, 12))))
    saving.start()
    found = []
    while saving.is_alive():
        restored = _restore(folder, "best")
        assert restored.damaged == {}
        _assert_restored(restored, restored.step)
        found.append(restored.step)
    saving.join()
    assert found == sorted(found)
    assert len(set(found)) > 2


def test_reading_a_folder_without_checkpoints_finds_none_and_makes_none(tmp_path):
    assert _restore(tmp_path / "missing") is None
    assert _best(tmp_path / "missing") is None
    assert not (tmp_path / "missing").exists()


def _assert_refused(folder, reason, capfd):
    """Saving fails in one clear line, and the checkpoints before it are as they were."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_items(4)))
    capfd.readouterr()
    with pytest.raises(StorageError) as error:
        _save(folder, (4, 0.9))
    [line] = str(error.value).splitlines()
    assert f"checkpoint 4 could not be saved in {folder} ({reason}): it needs {needed:,} bytes and " in line
    assert "The last good one is that of step 3." in line
    assert capfd.readouterr() == ("", "")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in sorted(folder.iterdir())] == ["1", "2", "3"]
    _assert_restored(_restore(folder), 3)


# Bytes at which the first file of orbax fails, the first of tensorstore, and the manifest.
@pytest.mark.parametrize("limit", [100, 200, 3000])
def test_a_file_that_cannot_be_written_whole_fails_the_save(copied, capfd, limit):
    """The process's limit on the size of a file stands for the disk's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        _assert_refused(copied, "File too large", capfd)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _save(copied, (4, 0.9))
    _assert_restored(_restore(copied), 4)


@pytest.fixture
def small_disk(saved, tmp_path):
    """A file system of 1 MB with the checkpoints of `saved`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(saved, disk / "checkpoints")
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("free", [0, 8192, 40960])
def test_a_full_disk_fails_the_save(small_disk, capfd, free):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
    _assert_refused(small_disk / "checkpoints", "No space left on device", capfd)
    filler.unlink()
    _save(small_disk / "checkpoints", (4, 0.9))
    _assert_restored(_restore(small_disk / "checkpoints"), 4)


def test_a_read_only_disk_fails_the_save(small_disk, capfd):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    _assert_refused(small_disk / "checkpoints", "Read-only file system", capfd)
    with pytest.raises(StorageError, match=r"checkpoints/new: Read-only file system: make it writable"):
        checkpoint.prepare(small_disk / "checkpoints" / "new")


TWO_PROCESSES = """
import json, sys
import jax, numpy as np
from pathlib import Path
from unet_jax.run import checkpoint
from unet_jax.runtime import mesh, processes
from unet_jax.runtime.peers import ending_together

rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
processes.join(f"localhost:{port}", 2, rank)
replicated = mesh.replicated(mesh.data_mesh())
found = []

def items(number):
    return {"model": jax.device_put({"array": np.full(300, number, np.float32)}, replicated)}

def restore():
    restored = checkpoint.restore(folder, "newest", checkpoint.on_devices(items(0), replicated))
    [whole] = {float(x) for x in np.asarray(restored.items["model"]["array"])}
    found.append([restored.step, whole, list(restored.damaged)])
    return restored

checkpoint.prepare(folder)
for step in (1, 2, 3):
    checkpoint.save(folder, step, items(step), None)
restore()
checkpoint.prepare(folder)  # both processes wait here, so that neither reads the checkpoint while it is damaged
if rank == 0:
    (folder / "3" / "manifest.json").unlink()
checkpoint.prepare(folder)
checkpoint.set_aside(folder, restore().damaged)
checkpoint.save(folder, 3, items(3), None)
restore()
print(json.dumps(found), file=sys.stderr)  # the other processes' stdout is silent
with ending_together():
    pass
"""


def test_two_processes_save_and_restore_together(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(rank), port, tmp_path / "checkpoints"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            found = re.search(r"\[\[.*\]\]", err)
            assert json.loads(found[0]) == [[3, 3.0, []], [2, 2.0, [3]], [3, 3.0, []]]
    finally:
        for process in processes:
            process.kill()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3", "damaged-3"]


def test_a_folder_that_is_gone_fails_the_save(folder):
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(StorageError, match=r"No such file or directory.*There is none before it"):
        _save(folder, (1, 0.5))


def test_what_is_wrong_with_the_program_is_not_blamed_on_the_disk(folder):
    with pytest.raises(ValueError, match=r"out of range|not JSON compliant"):
        checkpoint.save(folder, 1, _items(1), float("nan"))
