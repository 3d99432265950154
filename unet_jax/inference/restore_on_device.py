"""The way back from sums of logits to labels and probabilities of the case's box, a few slices at a time on the device.

The values are those of `plan.restore`, which holds whole logits on the host: resample, then decide.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, Int, UInt8, UInt16

from unet_jax.inference.rolling_sums import RollingSums, rounded
from unet_jax.inference.volume_windows import Layout
from unet_jax.plan.resample import Resampling

Result = TypeVar("Result")


class Taps(NamedTuple):
    """Nearest or linear interpolation along an axis: the two samples, neighbours or the same, that each result mixes.

    Attributes:
        lower: the first sample's number.
        upper: the second one's.
        weight: of the second one.
    """

    lower: Int[np.ndarray, " m"]
    upper: Int[np.ndarray, " m"]
    weight: Float32[np.ndarray, " m"]


@dataclasses.dataclass(frozen=True)
class WayBack:
    """How slices of the padded volume become slices of the result.

    Attributes:
        shape: of the result.
        slices: along the first axis.
        rows: along the second one, as long as it is on the device; None where nothing changes.
        columns: along the third one, as `rows`.
    """

    shape: tuple[int, int, int]
    slices: Taps
    rows: Taps | None
    columns: Taps | None


def can_stream(how: Resampling) -> bool:
    """Whether slices are interpolated from two at most; a cubic one depends on all of them."""
    return not how.enabled or max(how.order, how.order_z) <= 1


def way_back(layout: Layout, matrices: list[Float64[np.ndarray, "_ _"]]) -> WayBack:
    """The way from the padded volume to what its inner part is resampled to.

    Args:
        layout: of the windows.
        matrices: of each axis, nearest or linear; see `plan.resample.matrices`.
    """
    slices, rows, columns = (taps(*each) for each in zip(matrices, layout.margins, strict=True))
    shape = tuple(len(matrix) for matrix in matrices)
    in_plane = (
        None if np.array_equal(matrix, np.eye(padded)) else Taps(*(np.resize(part, rounded(size)) for part in each))
        for each, matrix, padded, size in zip((rows, columns), matrices[1:], layout.padded[1:], shape[1:], strict=True)
    )
    return WayBack(shape, slices, *in_plane)


def taps(matrix: Float64[np.ndarray, "m n"], offset: int) -> Taps:
    """The samples that an interpolation matrix mixes, counted from `offset`."""
    used = matrix != 0
    lower = used.argmax(axis=1)
    upper = matrix.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    weight = np.where(lower == upper, 0, np.take_along_axis(matrix, upper[:, None], 1)[:, 0])
    return Taps((lower + offset).astype(np.int32), (upper + offset).astype(np.int32), weight.astype(np.float32))


@dataclasses.dataclass(frozen=True)
class Decision:
    """What becomes of resampled logits, as `plan.restore.decide` has it.

    Attributes:
        regions_order: the label of each region, painted in this order; None where the largest logit decides.
        dtype: of the labels.
        keep_probabilities: whether they are returned.
        threshold: of two labels, the probability from which on it is the second; None leaves it to the largest logit.
    """

    regions_order: tuple[int, ...] | None
    dtype: type
    keep_probabilities: bool
    threshold: float | None = None

    def __call__(
        self, logits: Float32[Array, "n k h w"]
    ) -> tuple[UInt8[Array, "n h w"] | UInt16[Array, "n h w"], Float32[Array, "n k h w"] | None]:
        """Labels, and probabilities or None."""
        if self.regions_order is None and self.threshold is not None:
            probability = jax.nn.softmax(logits, axis=1)
            labels = (probability[:, 1] >= self.threshold).astype(self.dtype)
            return labels, probability if self.keep_probabilities else None
        if self.regions_order is None:
            labels = _largest(logits, self.dtype)
            return labels, jax.nn.softmax(logits, axis=1) if self.keep_probabilities else None
        labels = jnp.zeros(logits[:, 0].shape, self.dtype)
        for region, label in enumerate(self.regions_order):
            # A probability above one half.
            labels = jnp.where(logits[:, region] > 0, jnp.asarray(label, self.dtype), labels)
        return labels, jax.nn.sigmoid(logits) if self.keep_probabilities else None


def _largest(logits: Float32[Array, "n k h w"], dtype: type) -> UInt8[Array, "n h w"] | UInt16[Array, "n h w"]:
    """The first channel of the largest logit: argmax, which on a CPU takes 16 times as long with two channels."""
    largest = logits[:, 0]
    labels = jnp.zeros(largest.shape, dtype)
    for channel in range(1, logits.shape[1]):
        here = logits[:, channel]
        labels = jnp.where(here > largest, jnp.asarray(channel, dtype), labels)
        largest = jnp.maximum(largest, here)
    return labels


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
    lower, upper, weight = (np.resize(part[slices.start : slices.stop], size) for part in way.slices)
    across = Taps(sums.places(lower), sums.places(upper), weight)
    return _restore(sums.array, across, way.rows, way.columns, convert=convert)


@functools.partial(jax.jit, static_argnames="convert")
def _restore(
    sums: Float32[Array, "d k h w"],
    slices: Taps,
    rows: Taps | None,
    columns: Taps | None,
    *,
    convert: Callable[[Array], Result],
) -> Result:
    slab = _mix(sums, slices, 0)
    # Gathers and not products with the matrices, which on a CPU took ten times as long.
    slab = slab if rows is None else _mix(slab, rows, 2)
    slab = slab if columns is None else _mix(slab, columns, 3)
    # Otherwise a logit is interpolated again each time that it is compared.
    return convert(jax.lax.optimization_barrier(slab))


def _mix(array: Float32[Array, "d k h w"], taps: Taps, axis: int) -> Float32[Array, "D k H W"]:
    lower, upper = (jnp.take(array, part, axis, mode="clip") for part in (taps.lower, taps.upper))
    weight = jnp.expand_dims(taps.weight, [other for other in range(array.ndim) if other != axis])
    return lower * (1 - weight) + upper * weight
