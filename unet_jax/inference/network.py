"""A run's network as a function from images to probabilities, in the images' own geometry."""

import functools
from collections.abc import Callable, Collection
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float32, Int32
from ml_collections import ConfigDict

from unet_jax import models
from unet_jax.data import regions
from unet_jax.data.regions import Classes
from unet_jax.errors import InputError
from unet_jax.inference.preprocess import prepare_image, restore_logits
from unet_jax.models.fast.layouts import compiler_options
from unet_jax.models.functional import forward, logit_channels, split_model
from unet_jax.run import checkpoint, history
from unet_jax.run import folder as run_folder
from unet_jax.runtime.mesh import by_slab, replicated

# image [b, h, w, c] or, in 3-D, [b, d, h, w, c] → probability of the class, float32, without c; or, with several
# classes, those of background and classes in place of c; or, where they overlap, those of classes. Of padded images a
# second argument has the sizes, [b, 2].
Probability = Callable[..., jax.Array]
# window [b, *patch, c] → logits [b, *patch, k] of background and classes, or of classes that overlap, float32
Logits = Callable[[jax.Array], jax.Array]


def make_step(
    graphdef: nnx.GraphDef, config: ConfigDict, mesh: Mesh | None = None, *, overlap: bool = False
) -> Callable[[dict, dict, Array], Array]:
    """The compiled network as `segment` calls it: to logits where the config has patches, else to probabilities.

    Several classes may `overlap`, or else exclude each other. On a mesh with the axis "space", devices share each
    image: see `functional.forward`.
    """
    rank, slabs = config.model.get("rank", 2), None if mesh is None else by_slab(mesh)
    if config.data.patch is not None:
        return make_logits_step(graphdef, rank=rank, slabs=slabs)
    size = config.data.image_size
    return make_probability_step(graphdef, image_size=size, rank=rank, slabs=slabs, overlap=overlap)


def make_logits_step(
    graphdef: nnx.GraphDef, *, rank: int = 2, slabs: NamedSharding | None = None
) -> Callable[[dict, dict, Array], Float32[Array, "*window k"]]:
    """The compiled (params, batch_stats, window) → logits of background and classes, at the window's size.

    The window is [b, *patch, c], preprocessed. A network with one channel has its class's logit there, and the
    background has 0, so that the softmax of both is the sigmoid of the one. Classes that overlap have logits without a
    background. `rank` is the network's: see `layouts.compiler_options`; `slabs` is as for `functional.forward`.
    """

    def logits_step(params: dict, batch_stats: dict, window: Array) -> Float32[Array, "*window k"]:
        logits = forward(predicting(graphdef, params, batch_stats), window, slabs).astype(jnp.float32)
        return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1) if logits.shape[-1] == 1 else logits

    return jax.jit(logits_step, compiler_options=compiler_options(rank))


def make_probability_step(
    graphdef: nnx.GraphDef,
    *,
    image_size: int,
    rank: int = 2,
    slabs: NamedSharding | None = None,
    overlap: bool = False,
) -> Callable[[dict, dict, Array], Float32[Array, "*batch"]]:
    """The compiled (params, batch_stats, image) → probability, in the image's own geometry.

    The image is [b, h, w, c], in 3-D [b, d, h, w, c]. A network with one channel gives the probability of its class,
    without c; another those of background and classes, which sum to 1, in place of c, or, where classes `overlap`,
    those of classes. `rank` is the network's: see `layouts.compiler_options`; `slabs` is as for `functional.forward`.
    Images that lie in the upper left of h × w pixels have their sizes as another argument: see `prepare_image` and
    `restore_logits`.
    """

    def probability_step(
        params: dict, batch_stats: dict, image: Array, sizes: Int32[Array, "b 2"] | None = None
    ) -> Float32[Array, "*batch"]:
        model = predicting(graphdef, params, batch_stats)
        logits = forward(model, prepare_image(image, image_size, sizes), slabs).astype(jnp.float32)
        logits = restore_logits(logits, *image.shape[-3:-1], sizes)
        if overlap:
            return jax.nn.sigmoid(logits)
        return jax.nn.sigmoid(logits)[..., 0] if logits.shape[-1] == 1 else jax.nn.softmax(logits)

    return jax.jit(probability_step, compiler_options=compiler_options(rank))


def within_a_program(network: functools.partial) -> Probability | Logits:
    """The network of `load_network` to be part of another program, whose options for the compiler are its own."""
    return functools.partial(network.func.__wrapped__, *network.args)


def predicting(graphdef: nnx.GraphDef, params: dict, batch_stats: dict) -> nnx.Module:
    """The network without dropout, and with running statistics where it has them."""
    return nnx.view(
        nnx.merge(graphdef, params, batch_stats),
        deterministic=True,
        use_running_average=True,
        raise_if_not_found=False,  # a network without dropout or batch normalisation has no such switch
    )


def load_network(workdir: Path, config: ConfigDict, mesh: Mesh) -> tuple[Probability | Logits, checkpoint.Restored]:
    """The checkpoint that the config names as the function of `make_step`, and which one it is.

    The run's folder says how many channels it takes and how many classes it tells apart.

    Raises:
        InputError: there is no checkpoint, or it does not fit the config.
        DamageError: there are checkpoints, and none is whole.
    """
    classes = run_folder.read_classes(workdir)
    graphdef, like = _structure(config, image_channels(workdir, config), classes)
    wanted, epochs = config.eval.checkpoint, history.epochs_of(history.read(workdir))
    if epochs and all(record["val_dice"] is None for record in epochs):
        wanted = "newest"  # where no score is defined, none is the best
    like = {"model": checkpoint.on_devices(like, replicated(mesh))}
    restored = checkpoint.restore(workdir / run_folder.CHECKPOINTS, wanted, like)
    if restored is None:
        raise InputError(f"{workdir} has no scored checkpoint yet: train it for at least one epoch.")
    network = restored.items["model"]
    step = make_step(graphdef, config, mesh, overlap=regions.overlap(classes))
    return functools.partial(step, network["params"], network["batch_stats"]), restored


def image_channels(workdir: Path, config: ConfigDict) -> int:
    """How many channels the run's images have.

    Runs from before version 0.1 did not record it: for these, the number whose network has the checkpoint's shapes.

    Raises:
        InputError: neither the folder nor a checkpoint says it.
    """
    recorded = run_folder.read_channels(workdir)
    if recorded is not None:
        return recorded
    saved = checkpoint.shapes(workdir / run_folder.CHECKPOINTS, "model")
    classes = run_folder.read_classes(workdir)
    for channels in range(1, MOST_CHANNELS + 1):
        if saved and checkpoint.shapes_of(_structure(config, channels, classes)[1]) == saved:
            return channels
    raise InputError(f"{workdir} does not say how many channels its images have: train again with another --workdir.")


# The runs that did not record their channels had pictures or sequences of one patient.
MOST_CHANNELS = 16


def input_channels(config: ConfigDict, channels: int, classes: Classes = ()) -> int:
    """How many channels the network takes where images have `channels` and masks these classes.

    Those of the neighbouring slices count too, and, for the second network of a cascade, one for each number of a mask.
    """
    previous = regions.count_numbers(classes) if config.plan.previous else 0
    return channels * (1 + 2 * config.data.neighbours) + previous


def output_channels(classes: Classes) -> int:
    """How many channels of logits the network has for these classes; empty for one."""
    return logit_channels(regions.count(classes), overlap=regions.overlap(classes))


def _structure(config: ConfigDict, channels: int, classes: Classes) -> tuple[nnx.GraphDef, dict]:
    """`structure` for images of so many channels and masks of these classes."""
    return structure(config, input_channels(config, channels, classes), output_channels(classes))


def structure(config: ConfigDict, inputs: int, outputs: int) -> tuple[nnx.GraphDef, dict]:
    """The network's structure, and the shapes of its parameters and running statistics.

    Args:
        config: of a run.
        inputs: channels of the network's input.
        outputs: channels of its logits.
    """
    model = nnx.eval_shape(lambda: models.of_config(config.model, inputs, outputs, nnx.Rngs(0)))
    graphdef, params, batch_stats = split_model(model)
    return graphdef, {"params": params, "batch_stats": batch_stats}


def with_flips(probability: Probability, flips: Collection[str]) -> Probability:
    """The mean over the image as it is and flipped, each turned back.

    Args:
        probability: what is averaged.
        flips: "rows" (upside down), "columns" (left to right), or both, which also adds both at once; each doubles the
            work. Without any, the function itself.
    """
    if not flips:
        return probability

    def averaged(image: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
        axes_of = {"rows": image.ndim - 3, "columns": image.ndim - 2}
        several = [()]
        for name, axis in axes_of.items():
            several += [(*axes, axis) for axes in several if name in flips]
        if sizes is None:
            return sum(jnp.flip(probability(jnp.flip(image, axes)), axes) for axes in several) / len(several)
        lengths = dict(zip(axes_of.values(), (0, 1), strict=True))

        def turned(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
            for axis in axes:
                x = _turned(x, sizes[:, lengths[axis]], axis)
            return x

        return sum(turned(probability(turned(image, axes), sizes), axes) for axes in several) / len(several)

    return averaged


@functools.partial(jax.jit, static_argnums=2)
def _turned(x: Array, lengths: Int32[Array, " b"], axis: int) -> Array:
    """Each of a batch flipped along an axis as far as it goes; what is padded stays where it is."""

    def turn(one: Array, length: Int32[Array, ""]) -> Array:
        places = jnp.arange(one.shape[axis - 1])
        return jnp.take(one, jnp.where(places < length, length - 1 - places, places), axis=axis - 1)

    return jax.vmap(turn)(x, lengths)
