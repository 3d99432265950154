"""The way back from sums of logits to labels and probabilities of the case's box, a few slices at a time on the device.

The values are those of `plan.restore`, which holds whole logits on the host: resample, then decide.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, Int, UInt8, UInt16

from unet_jax.inference.rolling_sums import RollingSums, rounded
from unet_jax.inference.volume_windows import Layout, taps
from unet_jax.plan.resample import Resampling

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class WayBack:
    """How slices of the padded volume become slices of the result, by nearest or linear interpolation.

    Attributes:
        shape: of the result.
        lower: the first slice that each of the result's depends on.
        upper: the last one, the next or the same.
        weight: of the upper one.
        rows: the matrix that makes rows of rows, as large as they are on the device; None where they are the same.
        columns: as `rows`.
    """

    shape: tuple[int, int, int]
    lower: Int[np.ndarray, " d"]
    upper: Int[np.ndarray, " d"]
    weight: Float32[np.ndarray, " d"]
    rows: Float32[np.ndarray, "_ _"] | None
    columns: Float32[np.ndarray, "_ _"] | None


def can_stream(how: Resampling) -> bool:
    """Whether slices are interpolated from two at most; a cubic one depends on all of them."""
    return not how.enabled or max(how.order, how.order_z) <= 1


def way_back(layout: Layout, matrices: list[Float64[np.ndarray, "_ _"]]) -> WayBack:
    """The way from the padded volume to what its inner part is resampled to.

    Args:
        layout: of the windows.
        matrices: of each axis; see `plan.resample.matrices`.
    """
    across, down, along = matrices
    lower, upper, weight = taps(across)
    before, *margins = layout.margins
    in_plane = [
        _on_device(matrix, margin, size)
        for matrix, margin, size in zip((down, along), margins, layout.padded[1:], strict=True)
    ]
    return WayBack(tuple(len(matrix) for matrix in matrices), lower + before, upper + before, weight, *in_plane)


def _on_device(matrix: Float64[np.ndarray, "m n"], margin: int, padded: int) -> Float32[np.ndarray, "_ _"] | None:
    if matrix.shape == (padded, padded) and np.array_equal(matrix, np.eye(padded)):
        return None
    result = np.zeros((rounded(len(matrix)), rounded(padded)), np.float32)
    result[: len(matrix), margin : margin + matrix.shape[1]] = matrix
    return result


@dataclasses.dataclass(frozen=True)
class Decision:
    """What becomes of resampled logits, as `plan.restore.decide` has it.

    Attributes:
        regions_order: the label of each region, painted in this order; None where the largest logit decides.
        dtype: of the labels.
        keep_probabilities: whether they are returned.
    """

    regions_order: tuple[int, ...] | None
    dtype: type
    keep_probabilities: bool

    def __call__(
        self, logits: Float32[Array, "n k h w"]
    ) -> tuple[UInt8[Array, "n h w"] | UInt16[Array, "n h w"], Float32[Array, "n k h w"] | None]:
        """Labels, and probabilities or None."""
        if self.regions_order is None:
            labels = logits.argmax(axis=1).astype(self.dtype)
            return labels, jax.nn.softmax(logits, axis=1) if self.keep_probabilities else None
        labels = jnp.zeros(logits[:, 0].shape, self.dtype)
        for region, label in enumerate(self.regions_order):
            # A probability above one half.
            labels = jnp.where(logits[:, region] > 0, jnp.asarray(label, self.dtype), labels)
        return labels, jax.nn.sigmoid(logits) if self.keep_probabilities else None


def undecided(logits: Float32[Array, "n k h w"]) -> Float32[Array, "n k h w"]:
    """The logits themselves, in place of a `Decision`."""
    return logits


def restore_slices(
    sums: RollingSums, way: WayBack, slices: range, size: int, convert: Callable[[Array], Result]
) -> Result:
    """Some slices of the result, which is not waited for.

    Args:
        sums: with all that these slices depend on.
        way: to the result.
        slices: which.
        size: how many there are to be in one program: where `slices` are fewer, the last ones mean nothing.
        convert: a `Decision` or `undecided`.

    Returns:
        What `convert` makes of them; rows and columns beyond the result's shape mean nothing.
    """
    lower, upper, weight = (
        np.resize(each[slices.start : slices.stop], size) for each in (way.lower, way.upper, way.weight)
    )
    return _restore(sums.array, sums.places(lower), sums.places(upper), weight, way.rows, way.columns, convert=convert)


@functools.partial(jax.jit, static_argnames="convert")
def _restore(
    sums: Float32[Array, "d k h w"],
    lower: Int[Array, " n"],
    upper: Int[Array, " n"],
    weight: Float32[Array, " n"],
    rows: Float32[Array, "_ _"] | None,
    columns: Float32[Array, "_ _"] | None,
    *,
    convert: Callable[[Array], Result],
) -> Result:
    weight = weight[:, None, None, None]
    slab = sums[lower] * (1 - weight) + sums[upper] * weight
    if rows is not None:
        slab = jnp.einsum("mh,nkhw->nkmw", rows, slab, precision=jax.lax.Precision.HIGHEST)
    if columns is not None:
        slab = jnp.einsum("nkhw,mw->nkhm", slab, columns, precision=jax.lax.Precision.HIGHEST)
    return convert(slab)
