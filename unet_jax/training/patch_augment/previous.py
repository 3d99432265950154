"""The previous stage's masks as the second network of a cascade is given them in training: channels with faults.

Source: batchgeneratorsv2 0.3.6, transforms/nnunet, with the arguments of nnunetv2 2.8.1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Int32, Key

from unet_jax.training.patch_augment.components import remove_one
from unet_jax.training.patch_augment.draws import happens, named, sometimes, uniform
from unet_jax.training.patch_augment.morphology import OPERATORS, operate
from unet_jax.training.patch_augment.settings import AugmentSettings, Chance

Labels = Bool[Array, "d h w k"]


def one_hot(mask: Int[Array, "*patch"], labels: Sequence[int]) -> Bool[Array, "*patch k"]:
    """A channel for each label. `plan.cascade.one_hot` is the same in prediction."""
    return mask[..., None] == jnp.array(labels, mask.dtype)


def random_previous(key: Key[Array, ""], labels: Labels, settings: AugmentSettings) -> Labels:
    """Lets labels grow or shrink, and lose a component."""
    labels = random_morphology(named(key, "morphology"), labels, settings.morphology)
    return random_removal(named(key, "removal"), labels, settings.removal)


def random_morphology(key: Key[Array, ""], labels: Labels, chance: Chance) -> Labels:
    """Applies an operator with a drawn ball to some of the labels, in a drawn order."""
    count = labels.shape[-1]
    is_chosen = happens(named(key, "labels"), chance.each, (count,))
    order = jax.random.permutation(named(key, "order"), count)
    operators = jax.random.randint(named(key, "operators"), (count,), 0, len(OPERATORS))
    radii = uniform(named(key, "radii"), chance.range, (count,))

    def change(place: Int32[Array, ""], labels: Labels) -> Labels:
        label = order[place]

        def changed(labels: Labels) -> Labels:
            before = jax.lax.dynamic_index_in_dim(labels, label, axis=-1, keepdims=False)
            return replace(labels, label, operate(before, operators[label], radii[label], chance.range[1]))

        return jax.lax.cond(is_chosen[label], changed, lambda labels: labels, labels)

    return sometimes(key, chance.probability, lambda labels: jax.lax.fori_loop(0, count, change, labels), labels)


def replace(labels: Labels, label: Int32[Array, ""], volume: Bool[Array, "d h w"]) -> Labels:
    """Sets one label to a volume; the others lose the voxels that it gains."""
    gained = volume & ~jax.lax.dynamic_index_in_dim(labels, label, axis=-1, keepdims=False)
    return (labels & ~gained[..., None]).at[..., label].set(volume)


def random_removal(key: Key[Array, ""], labels: Labels, chance: Chance) -> Labels:
    """Removes a small component from some of the labels."""
    count = labels.shape[-1]
    is_chosen = happens(named(key, "labels"), chance.each, (count,))
    keys = jax.random.split(named(key, "components"), count)

    def change(label: Int32[Array, ""], labels: Labels) -> Labels:
        def changed(labels: Labels) -> Labels:
            before = jax.lax.dynamic_index_in_dim(labels, label, axis=-1, keepdims=False)
            return labels.at[..., label].set(remove_one(keys[label], before, chance.range[1]))

        return jax.lax.cond(is_chosen[label], changed, lambda labels: labels, labels)

    return sometimes(key, chance.probability, lambda labels: jax.lax.fori_loop(0, count, change, labels), labels)
