"""A step's batch as the network sees it, and its targets: augmented in training, as it is in validation."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key, Shaped

from unet_jax.inference.preprocess import prepare_image, prepare_mask, prepare_weights
from unet_jax.training import patch_augment
from unet_jax.training.augment import augment
from unet_jax.training.patch_augment.previous import one_hot
from unet_jax.training.step_settings import StepSettings


def augmented(
    key: Key[Array, ""], batch: Mapping[str, Array], settings: StepSettings
) -> tuple[Float[Array, "b *spatial c"], Float[Array, "b *spatial targets"]]:
    """A step's batch as the network sees it, and its targets.

    These are the mask of each class, where pixels are ignored the mask of these, and then weights where there are.
    """
    if settings.patches is not None:
        given = batch["image"], batch["mask"], settings.patches, batch.get("previous"), settings.mesh
        image, mask = patch_augment.augment(key, *given)
        return image, _of_classes(_one_hot(mask, settings), settings)
    image, targets = augment(key, *_resized(batch, settings), settings.augment, settings.stacked)
    return image, _of_classes(targets, settings)


def plain_inputs(
    batch: Mapping[str, Array], settings: StepSettings
) -> tuple[Float[Array, "b *spatial c"], Float[Array, "b *spatial targets"]]:
    """As `augmented`, without augmentation; patches are cut as the network sees them."""
    if settings.patches is None:
        image, targets = _resized(batch, settings)
        return image, _of_classes(targets, settings)
    image = batch["image"]
    if "previous" in batch:
        channels = one_hot(batch["previous"], settings.patches.labels)
        image = jnp.concatenate([image, channels.astype(image.dtype)], axis=-1)
    return image, _of_classes(_one_hot(jnp.maximum(batch["mask"], 0), settings), settings)


def split_targets(
    targets: Float[Array, "b *spatial targets"], settings: StepSettings, *, weighted: bool
) -> tuple[Array, Array | None, Array | None]:
    """The targets as a loss takes them.

    Args:
        targets: of `augmented` or `plain_inputs`.
        settings: of the step.
        weighted: whether the batch has pixel weights.

    Returns:
        The mask of each class, of several that exclude each other after that of the background; where pixels are
        ignored, those that are not; and pixel weights, 0 where ignored, if there are any.
    """
    classes = settings.classes
    labels = classes + settings.ignores
    mask, labelled = targets[..., :classes], 1 - targets[..., classes:labels] if settings.ignores else None
    pixel_weights = targets[..., labels:] if weighted else None
    if labelled is not None:
        pixel_weights = labelled if pixel_weights is None else labelled * pixel_weights
    if classes > 1 and not settings.members:  # only now, as what augmentation brings in from outside is background
        mask = jnp.concatenate([1 - mask.sum(-1, keepdims=True), mask], axis=-1)
    return mask, labelled, pixel_weights


def in_slabs(x: Shaped[Array, "b *spatial c"], slabs: NamedSharding | None) -> Shaped[Array, "b *spatial c"]:
    """The same array, in slabs on the devices that share samples.

    Until then each of these has it whole: so augmentation, which may take a voxel from anywhere, is computed by all of
    them, and none fetches slabs of another.
    """
    if slabs is None:
        return x
    whole = NamedSharding(slabs.mesh, PartitionSpec(slabs.spec[0]))
    return jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(x, whole), slabs)


def _one_hot(mask: Array, settings: StepSettings) -> Float[Array, "*batch numbers"]:
    return jax.nn.one_hot(mask, settings.numbers + settings.ignores + 1)[..., 1:]


def _resized(
    batch: Mapping[str, Array], settings: StepSettings
) -> tuple[Float[Array, "b *spatial c"], Float[Array, "b *spatial numbers"]]:
    # What is ignored goes through resizing and augmentation as a number after the others.
    sizes, labels = batch.get("size"), settings.numbers + settings.ignores
    image = prepare_image(batch["image"], settings.image_size, sizes)
    mask = jnp.minimum(batch["mask"], labels) if settings.ignores else batch["mask"]
    targets = prepare_mask(mask, settings.image_size, labels, sizes)
    if "weights" in batch:
        targets = jnp.concatenate([targets, prepare_weights(batch["weights"], settings.image_size, sizes)], axis=-1)
    return image, targets


def _of_classes(targets: Float[Array, "*batch numbers"], settings: StepSettings) -> Float[Array, "*batch targets"]:
    """With a channel for each class that overlaps others, in place of one for each number."""
    if not settings.members:
        return targets
    masks = [sum(targets[..., number - 1] for number in its) for its in settings.members]
    return jnp.concatenate([jnp.stack(masks, axis=-1), targets[..., settings.numbers :]], axis=-1)
