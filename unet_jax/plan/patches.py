"""Patches of preprocessed cases: where they are, a share of them on foreground, and how they are cut.

The rules are those of nnunetv2 2.8.1, training/dataloading/data_loader.py. Its draws have no seed; here the batch of a
step is a function of the seed and the step.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from unet_jax.errors import InputError
from unet_jax.plan.cutting import Places, cut
from unet_jax.plan.foreground import Key
from unet_jax.plan.prepared import PreparedCase

# What lies beyond a case's edges.
IMAGE_FILL, MASK_FILL = 0, -1


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How batches of patches are drawn. A patch of two axes is a slice of a case.

    Attributes:
        batch_size: patches a step.
        patch: voxels an axis that the network sees.
        drawn: voxels an axis that are cut out, so that the patch is full after rotation; None for `patch` itself.
        foreground: share of a batch, its end, that is centred on foreground.
    """

    batch_size: int
    patch: tuple[int, ...]
    drawn: tuple[int, ...] | None = None
    foreground: float = 0.33

    @property
    def cut(self) -> tuple[int, ...]:
        """Voxels an axis that are cut out."""
        return self.drawn or self.patch


def is_forced(row: int, sampling: Sampling) -> bool:
    """Whether a row of a batch is centred on foreground."""
    return row >= round(sampling.batch_size * (1 - sampling.foreground))


def batch(
    cases: Sequence[PreparedCase], sampling: Sampling, *, seed: int, step: int, rows: range | None = None
) -> dict[str, np.ndarray]:
    """The patches of a step. Cases are drawn evenly, with replacement.

    Args:
        cases: to draw from.
        sampling: how.
        seed: any integer from 0.
        step: counted from 0.
        rows: which of the batch to cut; all by default. Each row is drawn by itself, so that the parts of several
            processes are those of one.

    Returns:
        image, float32 [b, *patch, c], and mask, int16 [b, *patch] with -1 outside of the body and of the case; for a
        patch of two axes, without the axis of the slice. Also case, int32 [b], the position in `cases`, and place,
        int32 [b, 3], the first voxel, which may lie before the case's own. For the second network of a cascade also
        previous, the first one's mask, int16 [b, *patch].

    Raises:
        InputError: there is no case.
    """
    if not cases:
        raise InputError("there is no case to draw patches from: add cases.")
    drawn = [_draw(cases, sampling, seed, step, row) for row in rows or range(sampling.batch_size)]
    return {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


def _draw(cases: Sequence[PreparedCase], sampling: Sampling, seed: int, step: int, row: int) -> dict[str, np.ndarray]:
    """A row of `batch`."""
    generator = np.random.default_rng((seed, step, row))
    position = int(generator.integers(len(cases)))
    case = cases[position]
    # A slice is a patch of one.
    flat = len(sampling.patch) == 2
    patch, size = ((1, *shape) if flat else shape for shape in (sampling.patch, sampling.cut))
    centre = _centre(case, generator, forced=is_forced(row, sampling))
    begin = place(case.shape, size, patch, centre, generator)
    found = {
        "image": cut(case.image, begin, size, IMAGE_FILL),
        "mask": cut(case.mask, begin, size, MASK_FILL).astype(np.int16),
    }
    if case.previous is not None:
        found["previous"] = case.previous.cut(begin, size)
    if flat:
        found = {name: array[0] for name, array in found.items()}
    return found | {"case": np.int32(position), "place": np.array(begin, np.int32)}


def _centre(case: PreparedCase, generator: np.random.Generator, *, forced: bool) -> Places | None:
    """A voxel that the patch is to be centred on; None for anywhere.

    A forced patch is on a class that the case has, each as likely. Where a label is ignored, the others are on a voxel
    that somebody labelled; only where a case has no class is a forced one, too.
    """
    annotated = [key for key in case.classes if _is_annotated(key) and case.count(key)]
    present = [key for key in case.classes if not _is_annotated(key) and case.count(key)]
    keys = (present or annotated) if forced else annotated
    if not keys:
        return None
    voxels = case.locations(keys[generator.integers(len(keys))])
    return tuple(voxels[generator.integers(len(voxels))].tolist())


def _is_annotated(key: Key) -> bool:
    return isinstance(key, tuple) and key[0] < 0


def place(shape: Places, size: Places, patch: Places, centre: Places | None, generator: np.random.Generator) -> Places:
    """Where a patch begins, which may be before the case's first voxel.

    Anywhere, it reaches beyond the edges by half of what it is larger than the final patch, or than the case. About a
    centre, it begins no earlier than that, and may end later.

    Args:
        shape: of the case.
        size: of what is cut out.
        patch: of what is left of it in the end.
        centre: the voxel to be in the middle; None draws.
        generator: for the draw.
    """
    beyond = [max(cut - final, cut - n) for cut, final, n in zip(size, patch, shape, strict=True)]
    lows = [-n // 2 for n in beyond]
    if centre is not None:
        return tuple(max(low, at - cut // 2) for low, at, cut in zip(lows, centre, size, strict=True))
    highs = [n + far // 2 + far % 2 - cut for n, far, cut in zip(shape, beyond, size, strict=True)]
    return tuple(int(generator.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True))
