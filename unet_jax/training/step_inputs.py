"""A step's batch as the network sees it, and its targets."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from unet_jax.inference.preprocess import prepare_image, prepare_mask, prepare_weights
from unet_jax.training import patch_augment
from unet_jax.training.augment import augment
from unet_jax.training.step_settings import StepSettings


def augmented(
    key: Key[Array, ""], batch: Mapping[str, Array], settings: StepSettings
) -> tuple[Float[Array, "b *spatial c"], Float[Array, "b *spatial targets"]]:
    """A step's batch as the network sees it, and its targets.

    These are the mask of each class, where pixels are ignored the mask of these, and then weights where there are.
    """
    # What is ignored goes through resizing and augmentation as a number after the others.
    sizes, labels = batch.get("size"), settings.numbers + settings.ignores
    if settings.patches is not None:
        given = batch["image"], batch["mask"], settings.patches, batch.get("previous"), settings.mesh
        image, mask = patch_augment.augment(key, *given)
        return image, _of_classes(jax.nn.one_hot(mask, labels + 1)[..., 1:], settings)
    image = prepare_image(batch["image"], settings.image_size, sizes)
    mask = jnp.minimum(batch["mask"], labels) if settings.ignores else batch["mask"]
    targets = prepare_mask(mask, settings.image_size, labels, sizes)
    if "weights" in batch:
        targets = jnp.concatenate([targets, prepare_weights(batch["weights"], settings.image_size, sizes)], axis=-1)
    image, targets = augment(key, image, targets, settings.augment)
    return image, _of_classes(targets, settings)


def _of_classes(targets: Float[Array, "*batch numbers"], settings: StepSettings) -> Float[Array, "*batch targets"]:
    """With a channel for each class that overlaps others, in place of one for each number."""
    if not settings.members:
        return targets
    masks = [sum(targets[..., number - 1] for number in its) for its in settings.members]
    return jnp.concatenate([jnp.stack(masks, axis=-1), targets[..., settings.numbers :]], axis=-1)
