"""The training state as a checkpoint holds it, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unet_jax.errors import NumbersError
from unet_jax.run import checkpoint, resume
from unet_jax.runtime.mesh import replicated
from unet_jax.training.step import TrainState


def save(checkpoints: Path, state: TrainState, score: float | None, record: Mapping[str, str]) -> None:
    """Writes the state as a checkpoint, with its validation score where one is known, and what it was trained on.

    Raises:
        NumbersError: the state holds NaN or infinity; it is not saved.
        StorageError: the disk is full, read-only or failing; what was saved before is as it was.
    """
    items, step = _items(state), int(state.step)
    if leaves := nonfinite(items):
        raise NumbersError(
            f"The state after step {step} is NaN or infinite in {', '.join(leaves)}, and was not saved: train again "
            "with a smaller config.optim.learning_rate."
        )
    checkpoint.save(checkpoints, step, items, score, {**record, "epochs": int(state.epochs)})


def restore(
    checkpoints: Path, state: TrainState, mesh: Mesh, record: Mapping[str, str]
) -> tuple[TrainState, list[str]]:
    """The newest checkpoint that is whole, or `state` itself before the first; and a line for each damaged one.

    Damaged checkpoints are set aside. `record` is compared with what the checkpoint was trained on.

    Raises:
        InputError: the checkpoint does not fit the state, or was trained on something else.
        DamageError: there are checkpoints, and none is whole.
    """
    restored = checkpoint.restore(checkpoints, "newest", checkpoint.on_devices(_items(state), replicated(mesh)))
    if restored is None:
        return state, []
    resume.check_record(restored, record)
    warnings = checkpoint.warnings(checkpoints, restored)
    checkpoint.set_aside(checkpoints, restored.damaged)
    model, training = restored.items["model"], restored.items["training"]
    trained = training.pop("trained", None)
    return TrainState(**(trained or model), **training, average=model if trained else {}), warnings


def nonfinite(tree: Any) -> list[str]:
    """The names of the leaves that hold NaN or infinity."""
    if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree)):
        # On the host already: the devices may be busy.
        finite_leaves = jax.tree.map(lambda leaf: np.isfinite(leaf).all(), tree)
    else:
        finite_leaves = jax.device_get(_finite(tree))
    found = jax.tree_util.tree_leaves_with_path(finite_leaves)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, finite in found if not finite]


@jax.jit
def _finite(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), tree)


def _items(state: TrainState) -> dict[str, dict]:
    """What a checkpoint holds: "model" is what to predict with, "training" all else that resuming needs."""
    params, batch_stats = state.weights
    trained = {"trained": {"params": state.params, "batch_stats": state.batch_stats}} if state.average else {}
    return {
        "model": {"params": params, "batch_stats": batch_stats},
        "training": {"step": state.step, "opt_state": state.opt_state, "totals": state.totals}
        | {"epochs": state.epochs, "watch": state.watch}
        | trained,
    }
