"""nnU-Net's random transforms of patches, of two and of three axes, on the device: a pure function of the key.

`augment` has their order, `settings` how often and how strongly; each other file is one kind of transform.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float32, Int, Key, PyTree

from unet_jax.training.patch_augment.blur import random_blur
from unet_jax.training.patch_augment.draws import named
from unet_jax.training.patch_augment.intensity import random_brightness, random_contrast, random_gamma, random_noise
from unet_jax.training.patch_augment.low_resolution import random_low_resolution
from unet_jax.training.patch_augment.mirror import random_mirror
from unet_jax.training.patch_augment.previous import one_hot, random_previous
from unet_jax.training.patch_augment.settings import AugmentSettings
from unet_jax.training.patch_augment.spatial import random_spatial


def augment(
    key: Key[Array, ""],
    image: Float32[Array, "b *cut c"],
    mask: Int[Array, "b *cut"],
    settings: AugmentSettings,
    previous: Int[Array, "b *cut"] | None = None,
    mesh: Mesh | None = None,
) -> tuple[Float32[Array, "b *patch inputs"], Int[Array, "b *patch"]]:
    """Transforms each patch by random draws of its own, and its mask in the same way.

    On a CPU each device transforms its patches one by one, and what was not drawn is not computed. Elsewhere, where a
    branch would wait for the host, all are transformed at once, and what was not drawn is left out of the result.

    Args:
        key: determines every draw.
        image: normalised intensities of what was cut, at least as large as the patch.
        mask: labels; -1 outside of the body and of the case.
        settings: how often and how strongly.
        previous: for a cascade, the previous stage's masks, cut like the image.
        mesh: whose devices share the batch; None where there is one.

    Returns:
        The image, and the mask with 0 instead of -1. A cascade's image has a channel of 0 and 1 more for each of
        `settings.labels`.
    """
    masks = mask[..., None] if previous is None else jnp.stack([mask, previous.astype(mask.dtype)], axis=-1)
    keys = jax.random.split(key, len(image))
    return _over_batch(lambda each: _augment(*each, settings), (keys, image, masks), mesh)


def _over_batch(function: Callable[[PyTree], PyTree], batch: PyTree, mesh: Mesh | None) -> PyTree:
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(batch)
    if mesh is None:
        return jax.lax.map(function, batch)
    # Left to the compiler, every device would go through all patches of the batch.
    own = PartitionSpec("data")
    return jax.shard_map(
        lambda share: jax.lax.map(function, share), mesh=mesh, in_specs=(own,), out_specs=own, check_vma=False
    )(batch)


def _augment(
    key: Key[Array, ""], image: Float32[Array, "*cut c"], masks: Int[Array, "*cut k"], settings: AugmentSettings
) -> tuple[Float32[Array, "*patch inputs"], Int[Array, "*patch"]]:
    """One patch; `masks` holds the mask and the previous stage's, if there is one."""
    image, masks = random_spatial(named(key, "spatial"), image, masks, settings)
    image = random_noise(named(key, "noise"), image, settings.noise)
    image = random_blur(named(key, "blur"), image, settings.blur)
    image = random_brightness(named(key, "brightness"), image, settings.brightness)
    image = random_contrast(named(key, "contrast"), image, settings.contrast)
    image = random_low_resolution(named(key, "low resolution"), image, settings)
    image = random_gamma(named(key, "inverted gamma"), image, settings.inverted_gamma, inverted=True)
    image = random_gamma(named(key, "gamma"), image, settings.gamma)
    image, masks = random_mirror(named(key, "mirror"), image, masks, settings.mirror_axes, settings.mirror)
    if any(settings.inside_only):
        is_out = (masks[..., :1] < 0) & jnp.array(settings.inside_only)
        image = jnp.where(is_out, 0.0, image)
    masks = jnp.maximum(masks, 0)
    if masks.shape[-1] > 1:
        labels = random_previous(named(key, "previous"), one_hot(masks[..., 1], settings.labels), settings)
        image = jnp.concatenate([image, labels.astype(image.dtype)], axis=-1)
    return image, masks[..., 0]
