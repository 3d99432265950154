"""A whole preprocessed case to its mask: windows that overlap, their logits averaged, and the way back to the files."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from unet_jax.plan import restore, windows
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import Geometry


@dataclasses.dataclass(frozen=True)
class VolumeSettings:
    """How a case is segmented.

    Attributes:
        batch_size: windows at a time; the last batch is filled up with zeros.
        sharding: how a batch lies on the devices.
        mirror: axes of the window, counted from 0 as those of its patch; logits are averaged over all flips of them.
        step: how far apart windows are at most, as a share of their size.
    """

    batch_size: int
    sharding: jax.sharding.Sharding
    mirror: tuple[int, ...] = ()
    step: float = 0.5


def segment_case(
    logits: Callable[[jax.Array], jax.Array],
    image: Float32[np.ndarray, "d h w c"],
    geometry: Geometry,
    plans: Plans,
    configuration: Configuration,
    dataset: Dataset,
    settings: VolumeSettings,
    *,
    keep_probabilities: bool = False,
) -> tuple[UInt8[np.ndarray, "D H W"] | UInt16[np.ndarray, "D H W"], Float32[np.ndarray, "D H W k"] | None]:
    """The mask of a case in its files' geometry, and the probabilities where they are asked for.

    Args:
        logits: the network: [b, *patch, c] → [b, *patch, k], float32.
        image: preprocessed.
        geometry: of the preprocessed case.
        plans: the plan it was preprocessed by, and `configuration` that plan's.
        configuration: whose network predicts; one of two axes sees slice after slice.
        dataset: its labels.
        settings: how.
        keep_probabilities: whether they are returned.
    """
    flat = configuration.axes == 2
    patch = (1, *configuration.patch_size)[-3:]
    padded, inner = windows.pad(image, patch)
    starts = windows.starts(padded.shape[:3], patch, settings.step)
    if flat:
        starts[0] = list(range(len(padded)))
    weights = windows.importance(configuration.patch_size).reshape(*patch, 1)
    sums, total = None, np.zeros((*padded.shape[:3], 1), np.float32)
    for corners in _batches(itertools.product(*starts), settings.batch_size):
        places = [tuple(slice(start, start + n) for start, n in zip(corner, patch, strict=True)) for corner in corners]
        batch = np.zeros((settings.batch_size, *patch, image.shape[-1]), np.float32)
        for row, place in enumerate(places):
            batch[row] = padded[place]
        found = _mirrored(logits, jax.device_put(batch[:, 0] if flat else batch, settings.sharding), settings.mirror)
        for place, one in zip(places, np.asarray(found), strict=False):
            if sums is None:
                sums = np.zeros((*padded.shape[:3], one.shape[-1]), np.float32)
            sums[place] += weights * one.reshape(*patch, -1)
            total[place] += weights
    averaged = (sums / total)[inner]
    mask = restore.to_mask(averaged, geometry, plans, configuration, dataset)
    if not keep_probabilities:
        return mask, None
    return mask, restore.to_probabilities(averaged, geometry, plans, configuration, dataset)


def _mirrored(logits: Callable[[jax.Array], jax.Array], batch: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    chosen = [flips for count in range(len(axes) + 1) for flips in itertools.combinations(axes, count)]
    several = [tuple(axis + 1 for axis in flips) for flips in chosen]
    return sum(jnp.flip(logits(jnp.flip(batch, flips)), flips) for flips in several) / len(several)


def _batches(corners: Iterator[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    while part := list(itertools.islice(corners, size)):
        yield part
