"""The training state, and the compiled step that changes it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from jaxtyping import Array, Float, Int32, Shaped

from unet_jax.losses import deep_supervision_loss, pools_samples
from unet_jax.models.fast.layouts import compiler_options
from unet_jax.models.functional import forward, plain
from unet_jax.training import accumulate, parts
from unet_jax.training.step_inputs import augmented, in_slabs, split_targets
from unet_jax.training.step_settings import StepSettings

# What of a batch goes to the devices; the rest says whose slices they are.
ON_DEVICE = ("image", "mask", "weights", "size", "previous")
# Where a step first met NaN or infinity, by the number in its "fault"; 0 is nowhere.
FAULTS = ("", "image", "loss", "gradient")
# The share of a step's gradient norm in the running mean: about the last 50 steps count.
NORM_SHARE = 0.02


@struct.dataclass
class TrainState:
    """All that changes in training, as plain dictionaries of arrays.

    Attributes:
        step: int32 scalar, the steps done.
        params: parameters, float32.
        batch_stats: running statistics of batch normalisation; empty without it.
        opt_state: the optimiser's.
        totals: see `zero_totals`.
        epochs: int32 scalar, the epochs that are validated.
        watch: see `zero_watch`.
        average: the moving average of params and batch_stats, by these names; empty without one.
    """

    # Not annotated as arrays: jax also builds this from shapes, shardings and the like.
    step: Any
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    totals: dict
    epochs: Any
    watch: dict
    average: dict

    @property
    def weights(self) -> tuple[dict, dict]:
        """The parameters and running statistics to predict with: averaged ones where there are."""
        chosen = self.average or {"params": self.params, "batch_stats": self.batch_stats}
        return chosen["params"], chosen["batch_stats"]


# (state, batch) → (state, what to log)
Step = Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, dict[str, Shaped[Array, "*steps"]]]]


def zero_totals() -> dict[str, Array]:
    """Sums of loss and Dice, and the number of steps, of an epoch that has not begun.

    They live with the state, so that a resumed epoch has them whole.
    """
    return {"loss": jnp.zeros(()), "dice": jnp.zeros(()), "steps": jnp.zeros((), jnp.int32)}


def zero_watch() -> dict[str, Array]:
    """Steps that were skipped for NaN or infinity, spikes of the gradient's norm, and its running mean; 0 at first."""
    return {"skipped": jnp.zeros((), jnp.int32), "spikes": jnp.zeros((), jnp.int32), "usual_norm": jnp.zeros(())}


def init_state(
    params: dict, batch_stats: dict, optimizer: optax.GradientTransformation, *, averaged: bool = False
) -> TrainState:
    """The state before the first step; with `averaged`, it has a moving average."""
    step, epochs = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    # Copies, as a step uses its state up, and no array can be used up twice.
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if averaged else {}
    return TrainState(step, params, batch_stats, optimizer.init(params), zero_totals(), epochs, zero_watch(), average)


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    schedule: optax.Schedule,
) -> Step:
    """The compiled step: (state, batch) → (state, what to log). The state passed in is used up.

    A batch holds `image`, uint8 or float32 [b, h, w, c], and `mask`, uint8 [b, h, w] of 0 to `numbers`, in 3-D with d
    after b; for a loss with pixel weights, `weights`, float32 like the mask; and, where images differ in size, `size`,
    int32 [b, 2]: see `preprocess.prepare_image`. Of patches it is what `plan.training_patches.Patches.at` draws. Logged
    are the loss, the batch's Dice, the gradient's norm, the step's learning rate as `schedule` has it, `fault` (a place
    in FAULTS), and how many steps so far were spikes or were skipped.
    """
    step = _step(graphdef, optimizer, settings, schedule)
    return jax.jit(step, donate_argnums=0, compiler_options=compiler_options(settings.rank))


def make_train_steps(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    schedule: optax.Schedule,
) -> Step:
    """Several steps of `make_train_step` as one program: their batches, and what they log, have an axis of steps first.

    A program is compiled for each number of steps.
    """
    step = _step(graphdef, optimizer, settings, schedule)

    def train_steps(state: TrainState, batches: Mapping[str, Array]):
        return jax.lax.scan(step, state, batches)

    return jax.jit(train_steps, donate_argnums=0, compiler_options=compiler_options(settings.rank))


def _step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    schedule: optax.Schedule,
) -> Step:
    """The step, to be compiled."""

    def train_step(state: TrainState, batch: Mapping[str, Array]):
        key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        image, targets = (in_slabs(x, settings.slabs) for x in augmented(augment_key, batch, settings))
        mask, labelled, pixel_weights = split_targets(targets, settings, weighted="weights" in batch)

        def network(params: dict, image: Array, dropout_key: Array):
            model = nnx.merge(graphdef, parts.without_gradient(settings.frozen, params), state.batch_stats)
            model = parts.predicting(model, settings.frozen)
            logits = forward(nnx.view(model, dropout_key=dropout_key, raise_if_not_found=False), image, settings.slabs)
            return logits if isinstance(logits, tuple) else (logits,), plain(nnx.state(model, nnx.BatchStat))

        def loss_of(levels: tuple[Array, ...], mask: Array, pixel_weights: Array | None):
            return deep_supervision_loss(levels, mask, settings.loss, pixel_weights)

        def loss_and_rest(params: dict):
            levels, batch_stats = network(params, image, dropout_key)
            return loss_of(levels, mask, pixel_weights), (levels[0], batch_stats)

        if settings.accumulate == 1:
            found, gradient = jax.value_and_grad(loss_and_rest, has_aux=True)(state.params)
            loss, (logits, batch_stats) = found
        else:
            whole = pools_samples(settings.loss, weighted=pixel_weights is not None)
            given = state.params, image, (mask, pixel_weights), dropout_key, settings.accumulate
            loss, logits, gradient = accumulate.loss_and_gradient(
                lambda *part: network(*part)[0], loss_of, *given, whole=whole
            )
            batch_stats = state.batch_stats
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        dice = _hard_dice(logits, mask, labelled, overlap=bool(settings.members))
        totals = jax.tree.map(jnp.add, state.totals, {"loss": loss, "dice": dice, "steps": 1})
        params = optax.apply_updates(state.params, updates)
        if settings.frozen:
            params = parts.keep(settings.frozen, state.params, params)
            batch_stats = parts.keep(settings.frozen, state.batch_stats, batch_stats)
        norm = optax.tree.norm(gradient)
        fault = _fault(batch["image"], loss, norm)
        watch = _watched(state.watch, norm, fault, settings.spike_factor)
        after = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            totals=totals,
            watch=watch,
        )
        if settings.ema_decay is not None:
            weights = {"params": params, "batch_stats": batch_stats}
            after = after.replace(average=_averaged(state.average, weights, state.step, settings.ema_decay))
        if settings.skip_nonfinite:
            unchanged = state.replace(step=state.step + 1, watch=watch)
            after = jax.tree.map(lambda new, old: jnp.where(fault == 0, new, old), after, unchanged)
        counts = {"spikes": watch["spikes"], "skipped": watch["skipped"]}
        # A skipped step does not advance the optimiser, nor its schedule.
        rate = jnp.asarray(schedule(state.step - state.watch["skipped"]), jnp.float32)
        logged = {"loss": loss, "dice": dice, "gradient_norm": norm, "learning_rate": rate, "fault": fault}
        return after, logged | counts

    return train_step


def _fault(image: Array, loss: Float[Array, ""], norm: Float[Array, ""]) -> Int32[Array, ""]:
    """The first of image, loss and gradient that is not finite, as a place in FAULTS."""
    finite = [jnp.isfinite(found).all() for found in (image, loss, norm)]
    return jnp.select([~one for one in finite], [1, 2, 3], 0).astype(jnp.int32)


def _watched(watch: dict, norm: Float[Array, ""], fault: Int32[Array, ""], spike_factor: float) -> dict[str, Array]:
    """`watch` after a step whose gradient has this norm; a spike counts in the running mean as the limit it passed."""
    usual = jnp.where(watch["usual_norm"] == 0, norm, watch["usual_norm"])
    limit = spike_factor * usual
    mean = usual + NORM_SHARE * (jnp.minimum(norm, limit) - usual)
    return {
        "skipped": watch["skipped"] + (fault > 0),
        "spikes": watch["spikes"] + ((fault == 0) & (norm > limit)),
        "usual_norm": jnp.where(fault == 0, mean, watch["usual_norm"]),
    }


def _averaged(average: dict, weights: dict, step: Int32[Array, ""], decay: float) -> dict:
    """`average` after a step, of which min(decay, (1 + n) / (10 + n)) is kept after n steps.

    The smaller decay of the first steps, TensorFlow's, makes up for the start: random weights soon count no more.
    """
    share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda mean, new: mean + share * (new - mean), average, weights)


def _hard_dice(logits: Array, mask: Array, labelled: Array | None, *, overlap: bool) -> Float[Array, ""]:
    """Dice of the batch as one, 1 where prediction and mask are both empty; only pixels that are `labelled` count.

    One class is predicted from probability 0.5 on; of several, the Dice is the mean, and the likeliest is predicted,
    or, where they overlap, each that is likelier than not.
    """

    def counted(predicted: Array) -> Array:
        return predicted if labelled is None else predicted * labelled

    if overlap:
        likely = counted((logits > 0).astype(jnp.float32))
        several = [_overlap(likely[..., number], mask[..., number]) for number in range(logits.shape[-1])]
        return jnp.stack(several).mean()
    if logits.shape[-1] > 1:
        likeliest = counted(jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1]))
        several = [_overlap(likeliest[..., number], mask[..., number]) for number in range(1, logits.shape[-1])]
        return jnp.stack(several).mean()
    return _overlap(counted((logits >= 0).astype(jnp.float32)), mask)


def _overlap(predicted: Array, mask: Array) -> Float[Array, ""]:
    sizes = predicted.sum() + mask.sum()
    return jnp.where(sizes == 0, 1.0, 2 * (predicted * mask).sum() / jnp.maximum(sizes, 1))
