"""Learning-rate schedules and optimisers, from optax."""

import jax.numpy as jnp
import optax

from unet_jax.errors import InputError

OPTIMIZERS = ("adam", "adamax", "sgd")
SCHEDULES = ("constant", "cosine", "poly")
# nnU-Net's, after DeepLab (Chen et al. 2018).
POLY_POWER = 0.9


def learning_rate_schedule(
    name: str, *, peak: float, warmup_steps: int, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """Linear warm-up from peak / 100 to `peak`, then one of three courses.

    "constant" stays at `peak`; "cosine" falls by half a cosine to 0; "poly" is peak (1 - epoch / epochs)^0.9, the same
    for all steps of an epoch, as in nnU-Net.

    The warm-up ends within the first epoch: it takes min(warmup_steps, steps_per_epoch - 1) steps, as in torchvision's
    detection reference and in the tutorial.

    Args:
        name: one of `SCHEDULES`.
        peak: learning rate after the warm-up.
        warmup_steps: number of steps of the warm-up, at most; 0 is none.
        steps_per_epoch: number of steps of an epoch.
        total_steps: step at which "cosine" and "poly" reach 0.

    Returns:
        step, counted from 0 → learning rate.

    Raises:
        InputError: there is no schedule of that name.
    """
    warmup = min(warmup_steps, steps_per_epoch - 1)
    match name:
        case "constant":
            after = optax.constant_schedule(peak)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1))
        case "poly":
            after = _poly(peak, warmup, steps_per_epoch, total_steps)
        case _:
            raise InputError(f"config.optim.schedule is {name!r}; it must be one of {', '.join(SCHEDULES)}.")
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(peak / 100, peak, warmup), after], [warmup])


def _poly(peak: float, first_step: int, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """The schedule from `first_step` on, which it counts as 0."""
    epochs = max(-(-total_steps // steps_per_epoch), 1)

    def rate(step):
        epoch = (step + first_step) // steps_per_epoch
        return peak * jnp.maximum(1 - epoch / epochs, 0.0) ** POLY_POWER

    return rate


def optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float | None,
    coupled_decay: bool = False,
) -> optax.GradientTransformation:
    """The optimiser called `name` at the learning rates of `schedule`.

    Args:
        name: "adam" (Kingma & Ba 2015), "adamax" (the same, section 7.1) or "sgd" (momentum 0.99, Nesterov).
        schedule: step → learning rate.
        weight_decay: decoupled from the gradient (Loshchilov & Hutter 2019), and multiplied by the learning rate; 0 is
            none.
        clip_norm: a gradient with a larger global norm is scaled down to it, before all else; None clips nothing.
        coupled_decay: whether weight_decay × parameter is added to the (clipped) gradient instead, from which momentum
            and moments are then made: an L2 penalty, as PyTorch's SGD has it.

    Raises:
        InputError: there is no optimiser of that name.
    """
    match name:
        case "adam":
            direction = optax.scale_by_adam()
        case "adamax":
            direction = optax.scale_by_adamax()
        case "sgd":
            direction = optax.trace(decay=0.99, nesterov=True)
        case _:
            raise InputError(f"config.optim.name is {name!r}; it must be one of {', '.join(OPTIMIZERS)}.")
    parts = [direction, optax.scale_by_learning_rate(schedule)]
    if weight_decay:
        parts.insert(0 if coupled_decay else 1, optax.add_decayed_weights(weight_decay))
    if clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    return optax.chain(*parts)
