"""Removing the parts of a predicted mask that are too small, or all but the largest."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int, Int32, UInt8

from unet_jax.data import regions
from unet_jax.errors import InputError
from unet_jax.metrics import lesions

AS_PREDICTED = "as_predicted"


def check(settings: Mapping[str, int | bool], split_by: str) -> None:
    """Raises InputError unless config.eval.postprocess may be `settings`.

    Args:
        settings: the config's.
        split_by: config.data.split_by.
    """
    minimum = settings["minimum_voxels"]
    if minimum < 0:
        raise InputError(
            f"config.eval.postprocess.minimum_voxels is {minimum}; it must be at least 0, which keeps all."
        )
    if (minimum or settings["largest_component"]) and split_by == "slice":
        raise InputError(
            "config.eval.postprocess needs whole cases, and config.data.split_by is 'slice': "
            "make it 'patient', or set minimum_voxels to 0 and largest_component to False."
        )


def stages(
    mask: UInt8[np.ndarray, "d h w"], settings: Mapping[str, int | bool]
) -> Iterator[tuple[str, UInt8[np.ndarray, "d h w"]]]:
    """The mask as predicted, then after each step that `settings` switch on, with the step's name.

    Args:
        mask: 0 and 1, of a whole case.
        settings: minimum_voxels, which 0 switches off, and largest_component.
    """
    yield AS_PREDICTED, mask
    if settings["minimum_voxels"]:
        mask = remove_small(mask, settings["minimum_voxels"])
        yield "minimum_voxels", mask
    if settings["largest_component"]:
        yield "largest_component", keep_largest(mask)


def stages_of_regions(
    mask: UInt8[np.ndarray, "d h w"], settings: Mapping[str, int | bool], classes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, UInt8[np.ndarray, "d h w"]]]:
    """`stages` of each of several classes that overlap, which are then painted again, in their order.

    A voxel that none of its classes loses stays as it is.

    Args:
        mask: of the classes' numbers, of a whole case.
        settings: of `stages`.
        classes: which overlap: see `data.regions`.
    """
    members, painted = regions.members(classes), regions.painted(classes)
    before = [regions.marked(mask, numbers).astype(np.uint8) for numbers in members]
    for steps in zip(*(stages(of_class, settings) for of_class in before), strict=True):
        found, loses = np.zeros_like(mask), np.zeros(mask.shape, bool)
        for number, there, (_, kept) in zip(painted, before, steps, strict=True):
            found[kept > 0] = number
            loses |= there > kept
        yield steps[0][0], np.where(loses, found, mask)


def apply(
    mask: UInt8[np.ndarray, "d h w"], settings: Mapping[str, int | bool], classes: regions.Classes = ()
) -> UInt8[np.ndarray, "d h w"]:
    """The mask of a whole case after every step that `settings` switch on, class by class.

    Args:
        mask: 0 and 1, or the numbers of several classes.
        settings: of `stages`.
        classes: of the mask, which may overlap; empty for one.
    """
    if regions.overlap(classes):
        *_, (_, result) = stages_of_regions(mask, settings, classes)
        return result
    result = np.zeros_like(mask)
    for number in range(1, int(mask.max()) + 1):
        # Only the box around the class is looked at, which in a large volume saves most of the memory.
        box = lesions.box(mask == number)
        *_, (_, kept) = stages((mask[box] == number).astype(np.uint8), settings)
        result[box] += number * kept
    return result


def remove_small(mask: UInt8[np.ndarray, "d h w"], minimum_voxels: int) -> UInt8[np.ndarray, "d h w"]:
    """Without the connected components (as in `lesions`) of fewer than `minimum_voxels` voxels."""
    labels, sizes = _components(mask)
    return (sizes >= minimum_voxels).astype(np.uint8)[labels] & mask


def keep_largest(mask: UInt8[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
    """The largest connected component (as in `lesions`) alone; of equal ones, that of the first voxel."""
    labels, sizes = _components(mask)
    return (labels == sizes.argmax()) & mask


def _components(
    mask: UInt8[np.ndarray, "d h w"],
) -> tuple[Int32[np.ndarray, "d h w"], Int[np.ndarray, " n"]]:
    """The number of each voxel's component, and how many voxels each has; background is 0 and has none."""
    labels, number = lesions.label(mask)
    # Slice by slice: numpy counts 64-bit numbers, of which a volume would take eight times its voxels.
    sizes = sum(np.bincount(one.ravel(), minlength=number + 1) for one in labels)
    sizes[0] = 0
    return labels, sizes
