"""How large a patch is cut so that turning and shrinking it leaves little of the final patch empty.

Source: nnunetv2 2.8.1, training/nnUNetTrainer/nnUNetTrainer.py, and batchgenerators 0.25.5, `get_patch_size`.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

# A patch of three axes whose longest is more than this many times the first is turned in its slices alone.
FLAT = 3
# A patch of two axes of which one is more than this many times the other is turned by little.
OBLONG = 1.5
# Degrees: about each axis of a volume, within the slices of a flat one or a picture, and of an oblong picture.
VOLUME, SLICES, OBLONG_SLICES = 30.0, 180.0, 15.0
# A quarter turn enlarges most.
MOST = 90.0
# Of what is cut, this part is left by the strongest enlargement that is allowed for.
SCALE = 0.85


def is_flat(patch: Sequence[int]) -> bool:
    """Whether a patch of three axes is turned and scaled within its slices alone, the first axis left as it is."""
    return len(patch) == 3 and max(patch) / patch[0] > FLAT


def rotation(patch: Sequence[int]) -> float:
    """Degrees by which a patch is turned at most, either way."""
    if len(patch) == 2:
        return OBLONG_SLICES if max(patch) / min(patch) > OBLONG else SLICES
    return SLICES if is_flat(patch) else VOLUME


def enlarged_patch(patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels an axis to cut for a final patch of 2 or 3 axes.

    One corner of the patch is turned about each axis, one way; how far it reaches along each axis counts. Others may
    reach farther, and are then empty, as they are in nnU-Net.
    """
    angle = math.radians(min(rotation(patch), MOST))
    if is_flat(patch):
        return (patch[0], *_enlarged(patch[1:], angle))
    return _enlarged(patch, angle)


def _enlarged(patch: Sequence[int], angle: float) -> tuple[int, ...]:
    corner = np.array(patch, np.float64)
    turned = [np.abs(corner @ matrix) for matrix in _rotations(len(patch), angle)]
    return tuple((np.max([corner, *turned], axis=0) / SCALE).astype(int).tolist())


def _rotations(axes: int, angle: float) -> list[Float64[np.ndarray, "axes axes"]]:
    """About each axis of three, or the one of a plane; rows are turned."""
    planes = [(0, 1)] if axes == 2 else [(1, 2), (2, 0), (0, 1)]
    matrices = []
    for first, second in planes:
        matrix = np.eye(axes)
        matrix[first, first] = matrix[second, second] = math.cos(angle)
        matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
        matrices.append(matrix)
    return matrices
