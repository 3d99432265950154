"""The windows that cover a volume: their batches, their share in each voxel's logits, and when slices are finished.

A window's share is its importance over the sum of the importances of all windows there. Windows lie on a grid and the
Gaussian is a product over axes, so that a share is the product of one number an axis; and as shares sum to 1, so do
logits times shares to the mean, with no sum of weights to be kept or divided by.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int

from unet_jax.plan import windows

Patch = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where windows lie in a volume that is padded to the size of one at least.

    Attributes:
        shape: of the volume, without padding.
        patch: of a window; 1 along the first axis where windows are of single slices.
        flat: whether they are.
        margins: voxels of padding before each axis.
        padded: the volume's shape with padding.
        starts: of windows along each axis, in the padded volume.
        shares: of each start, along each axis.
    """

    shape: Patch
    patch: Patch
    flat: bool
    margins: Patch
    padded: Patch
    starts: tuple[list[int], ...]
    shares: tuple[Float32[np.ndarray, "_ _"], ...]

    @property
    def windows(self) -> int:
        """How many there are."""
        return math.prod(map(len, self.starts))


def lay_out(shape: Sequence[int], patch: Sequence[int], step: float, *, gaussian: bool) -> Layout:
    """Lays windows over a volume.

    Args:
        shape: of the volume.
        patch: of a window; one of two axes covers every slice.
        step: how far apart windows are at most, as a share of their size.
        gaussian: whether a window's centre counts more than its border.
    """
    flat = len(patch) == 2
    patch = (1, *patch)[-3:]
    margins = windows.centred(shape, patch)
    padded = tuple(n + before + after for n, (before, after) in zip(shape, margins, strict=True))
    starts = windows.starts(padded, patch, step)
    if flat:
        starts[0] = list(range(padded[0]))
    profiles = [windows.importance((n,)) if gaussian else np.ones(n, np.float32) for n in patch]
    shares = [_shares(*each) for each in zip(starts, padded, profiles, strict=True)]
    return Layout(
        tuple(shape), patch, flat, tuple(before for before, _ in margins), padded, tuple(starts), tuple(shares)
    )


def _shares(starts: list[int], size: int, profile: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "starts n"]:
    spans = [slice(start, start + len(profile)) for start in starts]
    total = np.zeros(size)
    for span in spans:
        total[span] += profile
    return np.stack([profile / total[span] for span in spans]).astype(np.float32)


def batches(layout: Layout, size: int) -> Iterator[Int[np.ndarray, "b 3"]]:
    """Windows as numbers of their starts along each axis, in order; `size` at a time, and what is left at last."""
    every = itertools.product(*(range(len(starts)) for starts in layout.starts))
    while part := list(itertools.islice(every, size)):
        yield np.array(part)


def cut(
    image: Float32[np.ndarray, "d h w c"], layout: Layout, batch: Int[np.ndarray, "b 3"], size: int
) -> Float32[np.ndarray, "size *patch c"]:
    """The windows' voxels, as the network takes them; zeros outside of the image and where the batch is not full."""
    result = np.zeros((size, *layout.patch, image.shape[-1]), np.float32)
    for row, window in zip(result, batch.tolist(), strict=False):
        there, here = [], []
        for axis, at in enumerate(window):
            start = layout.starts[axis][at] - layout.margins[axis]
            span = slice(max(start, 0), min(start + layout.patch[axis], image.shape[axis]))
            there.append(span)
            here.append(slice(span.start - start, span.stop - start))
        row[tuple(here)] = image[tuple(there)]
    return result[:, 0] if layout.flat else result


@dataclasses.dataclass(frozen=True)
class Step:
    """What to do before a batch of windows is added, and that batch.

    Attributes:
        finished: slices of the result that have all they depend on.
        retired: slices of the padded volume that nothing depends on any more.
        batch: windows; none at the end.
    """

    finished: range
    retired: range
    batch: Int[np.ndarray, "b 3"]


def schedule(
    layout: Layout, size: int, lower: Int[np.ndarray, " m"], upper: Int[np.ndarray, " m"]
) -> tuple[list[Step], int]:
    """The order of work, and how many slices of the padded volume are held at a time.

    Args:
        layout: of the windows.
        size: of a batch.
        lower: the first slice of the padded volume that each slice of the result depends on, ascending.
        upper: the last one.
    """
    steps, depth, done, base = [], 0, 0, 0
    for batch in batches(layout, size):
        first, last = (layout.starts[0][at] for at in batch[[0, -1], 0].tolist())
        ready = int(np.searchsorted(upper, first))
        needed = min(first, int(lower[ready]))
        steps.append(Step(range(done, ready), range(base, needed), batch))
        done, base = ready, needed
        depth = max(depth, last + layout.patch[0] - base)
    rest = Step(range(done, len(lower)), range(base, base), np.zeros((0, 3), int))
    return [*steps, rest], depth
