"""Checkpoints, through orbax: the newest two and the best are kept, and each is verified before it is used."""

import contextlib
import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from unet_jax.errors import DamageError, InputError, StorageError
from unet_jax.files import storage_error
from unet_jax.run import checkpoint_folder, manifest, plain_arrays
from unet_jax.runtime import exchange
from unet_jax.runtime.mesh import is_primary
from unet_jax.runtime.quiet import without_tracebacks


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint, and what is wrong with those that do not verify.

    Attributes:
        step: of the one that was restored.
        as_wanted: whether it is the one that was asked for; else it is the newest that verifies.
        items: its trees of arrays, by name.
        damaged: a line for each fault, by step.
        record: of `save`; empty for a checkpoint from before version 0.1.
    """

    step: int
    as_wanted: bool
    items: dict[str, Any]
    damaged: dict[int, list[str]]
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def prepare(directory: Path) -> None:
    """Makes `directory` ready for a run that saves: what a killed one left half done is removed.

    Raises:
        StorageError: the folder cannot be written.
    """
    _on_primary(checkpoint_folder.clean, directory)


def save(
    directory: Path,
    step: int,
    items: Mapping[str, Any],
    score: float | None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Writes checkpoint `step`, then deletes those that are neither among the newest two nor the best.

    Blocks until the files are whole: the next step reuses the state's memory. Of several processes the first one
    writes, and the others wait.

    Args:
        directory: which `prepare` has made ready.
        step: one that is there already is replaced.
        items: named trees of arrays; each process has the whole of every array.
        score: higher is better, and of equals the earliest counts as the best; None where there is none.
        record: what the arrays were trained with, to be compared with what they are used with.

    Raises:
        StorageError: the disk is full, read-only or failing; what was saved before is as it was.
    """
    if not is_primary():
        exchange.barrier()
        return
    arrays = jax.tree.map(np.asarray, dict(items))
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    unfinished = directory / f"{checkpoint_folder.UNFINISHED}{step}"
    try:
        if shutil.disk_usage(directory).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with without_tracebacks():
            for name, tree in arrays.items():
                _save_tree((unfinished / name).absolute(), tree)
        leaves = {name: manifest.leaf_digests(tree) for name, tree in arrays.items()}
        checkpoint_folder.commit(unfinished, step, score, leaves, record or {})
    except (OSError, ValueError) as error:
        reason = _storage_fault(error)
        if reason is None:
            raise
        shutil.rmtree(unfinished, ignore_errors=True)
        raise _unsaved(directory, step, needed, reason) from None
    exchange.barrier()


def restore(directory: Path, wanted: Literal["best", "newest"], like: Mapping[str, Any]) -> Restored | None:
    """The wanted checkpoint, or the newest that verifies if that one is damaged; None if there is none yet.

    All checkpoints are verified, by the SHA-256 of their files; the one that is restored also by those of its
    arrays. Nothing is written, and another process may be saving meanwhile.

    Args:
        directory: of the checkpoints; it may be missing.
        wanted: which.
        like: shapes, types and shardings of the items to restore, of `on_devices`.

    Raises:
        InputError: an array is missing or extra, or its shape or type differs from what `like` has.
        DamageError: there are checkpoints, and none verifies.
    """
    manifests, damaged = checkpoint_folder.survey(directory)
    newest = max(manifests.keys() | damaged.keys(), default=None)
    choice = newest if wanted == "newest" else checkpoint_folder.best_known(manifests)
    if choice is None and not damaged:
        return None
    newest_first = sorted(manifests.keys() - damaged.keys(), reverse=True)
    for step in sorted(newest_first, key=lambda step: step != choice):
        try:
            items, faults = _read(directory / str(step), manifests[step]["leaves"], like)
        except Exception:  # orbax has no class of its own for what it cannot read
            if step in checkpoint_folder.steps(directory):
                raise
            return restore(directory, wanted, like)  # the process that saves has deleted it meanwhile
        if not faults:
            return Restored(step, step == choice, items, damaged, manifests[step].get("record", {}))
        damaged[step] = faults
    raise DamageError(
        "\n".join(
            [
                f"No checkpoint in {directory} is whole: put one back from a copy, or name another --workdir to train "
                "again.",
                *(f"  {fault}" for faults in damaged.values() for fault in faults),
            ]
        )
    )


def warnings(directory: Path, restored: Restored) -> list[str]:
    """A line for each damaged checkpoint: what is wrong with it, and which one is used."""
    which = "" if restored.as_wanted else ", the newest that is whole,"
    return [
        f"checkpoint {step} in {directory} is damaged: {faults[0]}"
        + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
        + f"; step {restored.step}{which} is used."
        for step, faults in restored.damaged.items()
    ]


def set_aside(directory: Path, damaged: Iterable[int]) -> None:
    """Renames damaged checkpoints to `damaged-<step>`, so that their steps can be saved again; nothing is deleted.

    Raises:
        StorageError: the folder cannot be written.
    """
    exchange.barrier()  # each process has read what it was to read
    _on_primary(checkpoint_folder.set_aside, directory, damaged)


def shapes(directory: Path, item: str) -> dict[str, list[int]] | None:
    """The shapes of an item's arrays in the newest checkpoint whose manifest can be read; None without one."""
    manifests = [manifest.read_manifest(directory / str(step)) for step in checkpoint_folder.steps(directory)]
    readable = [found for found in manifests if found]
    return {name: leaf["shape"] for name, leaf in readable[-1]["leaves"][item].items()} if readable else None


def shapes_of(tree: Any) -> dict[str, list[int]]:
    """The shapes of a tree's arrays, named as in `shapes`."""
    return {name: list(leaf.shape) for name, leaf in manifest.named_leaves(tree).items()}


def on_devices(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes and types of `tree`'s arrays, to be restored with `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _on_primary(change: Callable, directory: Path, *arguments: Any) -> None:
    """One process changes the folder while the others wait for it."""
    if is_primary():
        try:
            change(directory, *arguments)
        except OSError as error:
            raise storage_error(error, directory) or error from None
    exchange.barrier()


# orbax is imported when something is saved or restored: it takes a quarter of a second, which the first step need not
# wait for.


def _save_tree(path: Path, tree: Any) -> None:
    import orbax.checkpoint as ocp

    _checkpointer().save(path, args=ocp.args.PyTreeSave(tree))


def _restore_tree(path: Path, like: Any) -> Any:
    import orbax.checkpoint as ocp

    arguments = ocp.args.PyTreeRestore(item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like))
    return _checkpointer().restore(path, args=arguments)


def _checkpointer() -> Any:
    """Of this process alone: of several, each reads by itself, and one writes."""
    import orbax.checkpoint as ocp

    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"process{jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _read(folder: Path, leaves: Mapping[str, dict], like: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The items of a checkpoint, and which of their arrays are not as they were saved."""
    items, faults = {}, []
    for name, tree in like.items():
        if name not in leaves:
            raise InputError(
                f"{folder} was packed, and what resuming needs was left out: name another --workdir, and start from "
                f"these weights with --config.train.initial_weights={folder.parents[1]}."
            )
        _check_fit(leaves[name], tree, f"{folder}, {name}")
        plain = folder / f"{name}{plain_arrays.SUFFIX}"
        with without_tracebacks():
            items[name] = (
                plain_arrays.read(plain, tree) if plain.is_dir() else _restore_tree((folder / name).absolute(), tree)
            )
        digests = manifest.leaf_digests(items[name])
        faults += [
            f"{folder.name}/{name}: the array {leaf} is not what was saved (SHA-256)"
            for leaf in leaves[name]
            if digests[leaf] != leaves[name][leaf]
        ]
    return items, faults


def _check_fit(saved: Mapping[str, dict], like: Any, where: str) -> None:
    found = {name: _described(leaf) for name, leaf in saved.items()}
    needed = {name: _described(manifest.describe(leaf)) for name, leaf in manifest.named_leaves(like).items()}
    faults = [
        f"  {name}: found {found.get(name, 'nothing')}, needed {needed.get(name, 'nothing')}"
        for name in sorted(needed | found)
        if needed.get(name) != found.get(name)
    ]
    if faults:
        raise InputError("\n".join([f"{where} does not fit; train again with another --workdir:", *faults]))


def _described(leaf: Mapping[str, Any]) -> str:
    return f"{leaf['dtype']} {tuple(leaf['shape'])}"


def _storage_fault(error: Exception) -> str | None:
    """What is wrong with the disk, if `error` is about that; tensorstore has the system's number in its message."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    if number:
        return os.strerror(int(number[1]))
    return (error.strerror or str(error)) if isinstance(error, OSError) else None


def _unsaved(directory: Path, step: int, needed: int, reason: str) -> StorageError:
    manifests, damaged = checkpoint_folder.survey(directory)
    last = max(manifests.keys() - damaged.keys(), default=None)
    free = ""
    with contextlib.suppress(OSError):
        free = f" and {shutil.disk_usage(directory).free:,} are free"
    return StorageError(
        f"checkpoint {step} could not be saved in {directory} ({reason}): it needs {needed:,} bytes{free}. "
        + ("There is none before it. " if last is None else f"The last good one is that of step {last}. ")
        + "Make room or mend the disk, then run the same command to resume from there."
    )
