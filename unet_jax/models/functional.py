"""A network as a function: its structure and plain dictionaries of arrays in, logits out."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from unet_jax.models.fast import tracing
from unet_jax.models.sizes import input_size_for

# At the image's size, or, from a network with deep supervision in training, at that and lower resolutions.
Logits = Float[Array, "b *spatial classes"] | tuple[Float[Array, "b *_ classes"], ...]


def logit_channels(classes: int, *, overlap: bool = False) -> int:
    """Channels of the logits of a network that tells so many classes from background.

    One class needs a single channel, for a sigmoid, and so does each of several that may overlap. Others exclude each
    other, and the background is one of them.
    """
    return classes if classes == 1 or overlap else classes + 1


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, dict, dict]:
    """The module as (structure, parameters, running statistics of batch normalisation)."""
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, plain(params), plain(batch_stats)


def plain(state: nnx.State) -> dict:
    """A module's state as plain dictionaries of arrays."""
    return nnx.to_pure_dict(nnx.as_pure(state))


def forward(model: nnx.Module, image: Float[Array, "b *spatial c"], slabs: NamedSharding | None = None) -> Logits:
    """The network's logits for every pixel of the image.

    Where convolutions without padding leave none for the border, the image is mirrored there first: the overlap-tile
    of Ronneberger et al. 2015 (figure 2).

    Args:
        model: the network.
        image: on one device, or shared by samples.
        slabs: how samples lie on devices that share them, and so do all features and the logits: see `mesh.by_slab`.
            The first axis divides by the number of slabs times the network's divisor, and there is no margin.
    """
    if slabs is not None:
        with tracing.tracing_for(tracing.SLABS):
            return model(jax.lax.with_sharding_constraint(image, slabs))
    margin = getattr(model, "margin", 0)
    if not margin:
        return model(image)
    size = image.shape[1:-1]
    needed = input_size_for(size, model.divisor, margin)
    mirrored = [(margin, big - n - margin) for n, big in zip(size, needed, strict=True)]
    logits = model(jnp.pad(image, [(0, 0), *mirrored, (0, 0)], mode="reflect"))
    return logits[(slice(None), *(slice(n) for n in size))]
