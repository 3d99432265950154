"""Checkpoints on disk: the newest and the best, through orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from unet_jax.errors import InputError

# What a checkpoint consists of: evaluation reads the model alone.
ITEMS = ("model", "training")


def open_checkpoints(directory: Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    """The checkpoints under `directory`, of which the newest and the one of the highest score are kept.

    Of equal scores the earliest counts as the best. Saving blocks until the files are whole: the next step reuses
    the state's memory.

    Args:
        directory: made where it is missing, unless it is only read.
        read_only: leaves everything as it is; another process may be saving there.
    """
    options = ocp.CheckpointManagerOptions(
        best_fn=_rank,
        preservation_policy=AnyPreservationPolicy(
            [LatestN(1), BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)]
        ),
        enable_async_checkpointing=False,
        read_only=read_only,
        create=not read_only,
        cleanup_tmp_directories=not read_only,
    )
    handlers = {name: ocp.PyTreeCheckpointHandler() for name in ITEMS}
    return ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)


def _rank(metrics: dict[str, float | int]) -> tuple[float, int]:
    return metrics["score"], -metrics["step"]


def save(manager: ocp.CheckpointManager, step: int, items: dict[str, Any], score: float | None) -> None:
    """Writes `items`, named trees of arrays, as checkpoint `step`; `score` (higher is better) where one is known."""
    metrics = None if score is None else {"score": float(score), "step": step}
    trees = {name: ocp.args.PyTreeSave(tree) for name, tree in items.items()}
    manager.save(step, args=ocp.args.Composite(**trees), metrics=metrics, force=True)


def restore(manager: ocp.CheckpointManager, step: int, like: dict[str, Any]) -> dict[str, Any]:
    """The items named in `like` of checkpoint `step`, with its structures, shapes, types and shardings.

    Raises:
        InputError: a leaf is missing or extra, or its shape or type differs from what `like` has.
    """
    found = manager.item_metadata(step)
    for name, tree in like.items():
        _check_leaves(found[name].tree, tree, f"{manager.directory / str(step)}, {name}")
    arguments = {
        name: ocp.args.PyTreeRestore(item=tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree))
        for name, tree in like.items()
    }
    restored = manager.restore(step, args=ocp.args.Composite(**arguments))
    return {name: restored[name] for name in like}


def on_devices(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes and types of `tree`'s arrays, to be restored with `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _check_leaves(saved: Any, like: Any, where: str) -> None:
    found, needed = (
        {_name(path): (tuple(leaf.shape), np.dtype(leaf.dtype)) for path, leaf in _leaves(tree)}
        for tree in (saved, like)
    )
    faults = [
        f"  {name}: found {_describe(found.get(name))}, needed {_describe(needed.get(name))}"
        for name in sorted(needed | found)
        if needed.get(name) != found.get(name)
    ]
    if faults:
        raise InputError("\n".join([f"{where} does not fit; train anew with another --workdir:", *faults]))


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))


def _name(path: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def _describe(leaf: tuple[tuple[int, ...], np.dtype] | None) -> str:
    return "nothing" if leaf is None else f"{leaf[1]} {leaf[0]}"
