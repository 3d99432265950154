"""The loss of the validation side after an epoch: of the same batches each time, as they are."""

import math
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float32

from unet_jax.inference.network import predicting
from unet_jax.losses import total_loss
from unet_jax.models.fast.layouts import compiler_options
from unet_jax.models.functional import forward
from unet_jax.runtime.mesh import global_batch
from unet_jax.training.step import ON_DEVICE, TrainState
from unet_jax.training.step_inputs import in_slabs, plain_inputs, split_targets
from unet_jax.training.step_settings import StepSettings

# Loss and gradient of a batch cost about three times its loss: all in all, this adds a thirtieth to an epoch.
SHARE = 0.1


def number_of_batches(samples: int | None, batch_size: int, steps_per_epoch: int) -> int:
    """How many batches the loss is taken of: at most `SHARE` of those of training, and at least one.

    Args:
        samples: of the validation side, all of which fit into so many batches at most; None for endless patches.
        batch_size: samples a batch.
        steps_per_epoch: batches of this size in an epoch of training.
    """
    most = max(int(SHARE * steps_per_epoch), 1)
    return most if samples is None else min(most, -(-samples // batch_size))


def make(
    graphdef: nnx.GraphDef,
    settings: StepSettings,
    batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
    mesh: Mesh,
) -> Callable[[TrainState], float | None]:
    """The mean loss over the batches with a state's weights to predict with; None where it is not finite.

    It is training's loss, without augmentation and dropout and with running statistics; of a network with deep
    supervision, that of the highest resolution.

    Args:
        graphdef: the network's structure.
        settings: of the training step.
        batches: of this process, the same at each call.
        mesh: the devices.
    """
    step = _make_step(graphdef, settings)

    def validation_loss(state: TrainState) -> float | None:
        losses = []
        for batch in batches():
            on_device = global_batch({key: array for key, array in batch.items() if key in ON_DEVICE}, mesh)
            losses.append(float(step(*state.weights, on_device)))
        mean = float(np.mean(losses))
        return mean if math.isfinite(mean) else None

    return validation_loss


def _make_step(
    graphdef: nnx.GraphDef, settings: StepSettings
) -> Callable[[dict, dict, Mapping[str, Array]], Float32[Array, ""]]:
    def loss_step(params: dict, batch_stats: dict, batch: Mapping[str, Array]) -> Float32[Array, ""]:
        image, targets = (in_slabs(x, settings.slabs) for x in plain_inputs(batch, settings))
        mask, _, pixel_weights = split_targets(targets, settings, weighted="weights" in batch)
        logits = forward(predicting(graphdef, params, batch_stats), image, settings.slabs)
        return total_loss(logits, mask, settings.loss, pixel_weights)

    return jax.jit(loss_step, compiler_options=compiler_options(settings.rank))
