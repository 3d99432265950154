"""A run on patches as one function of jax: a case as its files have it in, its mask and probabilities out.

The steps are those of `plan.preprocess` and `inference.volumes`, for one shape and spacing: then every size, matrix and
window is known beforehand. One differs: a case is not cut to the box of what is not 0, whose size no program can leave
open. Intensities are measured in that box all the same, and outside of it everything is background.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, UInt8

from unet_jax.inference.network import Logits
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.volume_windows import Layout, lay_out
from unet_jax.plan import resize
from unet_jax.plan.dataset import Dataset
from unet_jax.plan.intensities import Intensities
from unet_jax.plan.normalise import LEAST
from unet_jax.plan.resample import Resampling, Shape, Spacing, new_shape, thick_axis
from unet_jax.plan.run_plan import RunPlan
from unet_jax.plan.spacing import inverse

STEP = 0.5

Program = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Part:
    """A configuration that segments.

    Attributes:
        logits: its network, or the mean of several folds'.
        settings: of a run on patches.
    """

    logits: Logits
    settings: SegmentSettings


def program(parts: Sequence[Part], shape: Shape, spacing: Spacing) -> Program:
    """The function of an image of that shape and spacing: to its mask, and the probabilities that it rests on.

    Args:
        parts: whose probabilities are averaged; the threshold is the first one's.
        shape: of a case, without channels.
        spacing: of a case, in mm.

    Returns:
        a function of [d, h, w, c], float32, in the files' own units, to the mask [d, h, w], and to probabilities: of
        the only class [d, h, w], or of background and each of several [d, h, w, k], or of each that may overlap.
    """
    threshold, painted = parts[0].settings.threshold, parts[0].settings.painted
    several = [_probabilities(part, shape, spacing) for part in parts]

    def segment(image: Float32[Array, "d h w c"]) -> tuple[UInt8[Array, "d h w"], Float32[Array, "d h w *k"]]:
        found = sum(each(image) for each in several) / len(several)
        if painted is not None:
            mask = jnp.zeros(shape, jnp.uint8)
            for channel, number in enumerate(painted):
                mask = jnp.where(found[..., channel] > 0.5, jnp.uint8(number), mask)
            return mask, found
        if found.shape[-1] > 2:
            return found.argmax(-1).astype(jnp.uint8), found
        # At one half, a tie is background, as for the largest logit.
        foreground = found[..., 1]
        decided = foreground > found[..., 0] if threshold == 0.5 else foreground >= threshold
        return decided.astype(jnp.uint8), foreground

    return segment


def probabilities(logits: Float32[Array, "*batch k"], dataset: Dataset) -> Float32[Array, "*batch k"]:
    """Of background and classes by a softmax, or of each region by a sigmoid."""
    return jax.nn.softmax(logits) if dataset.regions is None else jax.nn.sigmoid(logits)


def _probabilities(part: Part, shape: Shape, spacing: Spacing) -> Callable[[jax.Array], jax.Array]:
    plan, order = part.settings.plan, part.settings.plan.plans.transpose_forward
    configuration = plan.configuration
    shape, spacing = (tuple(each[axis] for axis in order) for each in (shape, spacing))
    target = (spacing[0], *configuration.spacing)[-3:]
    resampled = new_shape(shape, spacing, target) if configuration.images.enabled else shape
    layout = lay_out(resampled, configuration.patch_size, STEP, gaussian=True)

    def compute(image: Float32[Array, "d h w c"]) -> Float32[Array, "d h w k"]:
        with jax.default_matmul_precision("highest"):
            turned = image.transpose(*order, 3)
            box = _box(jnp.any(turned != 0, axis=-1))
            normalised = _normalise(turned, box, plan)
            there = resample(normalised, resampled, spacing, target, configuration.images)
        logits = _windows(part.logits, there, layout, part.settings.mirror_axes)
        with jax.default_matmul_precision("highest"):
            back = resample(logits, shape, target, spacing, configuration.logits)
        background = 0.0 if plan.dataset.regions is not None else jnp.eye(back.shape[-1])[0]
        found = jnp.where(box[..., None], probabilities(back, plan.dataset), background)
        return found.transpose(*inverse(order), 3)

    return compute


def _box(nonzero: Bool[Array, "d h w"]) -> Bool[Array, "d h w"]:
    """The smallest box that holds every True, or everything where there is none: `plan.crop`."""
    result = jnp.ones(nonzero.shape, bool)
    for axis in range(3):
        line = nonzero.any(tuple({0, 1, 2} - {axis}))
        inside = (jnp.cumsum(line) > 0) & (jnp.cumsum(line[::-1])[::-1] > 0)
        result &= jnp.expand_dims(inside, tuple({0, 1, 2} - {axis}))
    return result | ~nonzero.any()


def _body(nonzero: Bool[Array, "d h w"]) -> Bool[Array, "d h w"]:
    """What is not 0, and what it encloses in 3-D: all that a flood from the border does not reach."""
    empty = jnp.pad(~nonzero, 1, constant_values=True)
    border = ~jnp.pad(jnp.ones(nonzero.shape, bool), 1)

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        flooded, _ = state
        reached = flooded
        for axis in range(3):
            # What wraps around is border, and flooded anyway.
            reached = reached | jnp.roll(flooded, 1, axis) | jnp.roll(flooded, -1, axis)
        reached &= empty
        return reached, (reached != flooded).any()

    flooded, _ = jax.lax.while_loop(lambda state: state[1], spread, (border, jnp.array(True)))
    return ~flooded[1:-1, 1:-1, 1:-1]


def _normalise(image: Float32[Array, "d h w c"], box: Bool[Array, "d h w"], plan: RunPlan) -> Array:
    """As `plan.normalise`, of the box's voxels."""
    configuration, channels = plan.configuration, []
    zscores_inside = [
        scheme == "zscore" and inside
        for scheme, inside in zip(configuration.normalisation, configuration.inside_only, strict=True)
    ]
    body = _body(jnp.any(image != 0, axis=-1)) if any(zscores_inside) else None
    for index, scheme in enumerate(configuration.normalisation):
        channel = image[..., index]
        if scheme == "zscore":
            normalised = _zscore(channel, body if zscores_inside[index] else box)
            channel = jnp.where(body, normalised, channel) if zscores_inside[index] else normalised
        elif scheme == "ct":
            channel = _ct(channel, plan.plans.intensities[index])
        elif scheme == "rescale":
            low = jnp.min(channel, where=box, initial=jnp.inf)
            high = jnp.max(channel, where=box, initial=-jnp.inf)
            channel = (channel - low) / jnp.maximum(high - low, LEAST)
        elif scheme == "rgb":
            channel = channel / 255
        channels.append(channel)
    return jnp.stack(channels, axis=-1)


def _zscore(channel: Float32[Array, "d h w"], inside: Bool[Array, "d h w"]) -> Float32[Array, "d h w"]:
    """Sums of float32 are of differences from a first mean, so that they keep their digits."""
    count = jnp.maximum(inside.sum(), 1)
    mean = jnp.sum(channel, where=inside) / count
    mean += jnp.sum(channel - mean, where=inside) / count
    spread = jnp.sqrt(jnp.sum((channel - mean) ** 2, where=inside) / count)
    return (channel - mean) / jnp.maximum(spread, LEAST)


def _ct(channel: Float32[Array, "d h w"], of: Intensities) -> Float32[Array, "d h w"]:
    return (jnp.clip(channel, of.percentile_00_5, of.percentile_99_5) - of.mean) / max(of.std, LEAST)


def resample(
    volume: Float32[Array, "d h w k"], shape: Shape, spacing: Spacing, target: Spacing, how: Resampling
) -> Float32[Array, "D H W k"]:
    """As `plan.resample.resample_image`: a product with a matrix along each axis, and cut off to the range there was.

    Thick slices are resized by themselves and cut off to their own range before they are mixed.
    """
    old = volume.shape[:3]
    if not how.enabled or old == tuple(shape):
        return volume
    thick = thick_axis(spacing, target, how.separate_z)
    in_plane = [axis for axis in range(3) if axis != thick]
    low, high = (bound(volume, axis=tuple(in_plane), keepdims=True) for bound in (jnp.min, jnp.max))
    for axis in in_plane:
        volume = _along(volume, axis, resize.matrix(old[axis], shape[axis], how.order))
    volume = jnp.clip(volume, low, high)
    if thick is None:
        return volume
    return _along(volume, thick, resize.matrix(old[thick], shape[thick], how.order_z))


def _along(volume: Float32[Array, "d h w k"], axis: int, matrix: np.ndarray) -> Float32[Array, "D H W k"]:
    if np.array_equal(matrix, np.eye(*matrix.shape)):
        return volume
    return jnp.moveaxis(jnp.tensordot(matrix.astype(np.float32), volume, (1, axis)), 0, axis)


def _windows(
    network: Logits, image: Float32[Array, "d h w c"], layout: Layout, mirror_axes: Sequence[int]
) -> Float32[Array, "d h w k"]:
    """The logits of every voxel: the network's for each window, weighted by the window's share."""
    after = [n - m - size for n, m, size in zip(layout.padded, layout.margins, layout.shape, strict=True)]
    padded = jnp.pad(image, [*zip(layout.margins, after, strict=True), (0, 0)])
    grid = np.array(list(np.ndindex(*map(len, layout.starts))))
    places = np.stack([np.asarray(starts)[grid[:, axis]] for axis, starts in enumerate(layout.starts)], -1)
    window_shape = (*layout.patch, image.shape[-1])
    answer = jax.eval_shape(lambda x: _mirrored(network, x, layout, mirror_axes), jnp.zeros(window_shape))

    def add(number: Array, sums: Array) -> Array:
        # Constants within the program: the loop's number picks from them.
        at, of = jnp.asarray(places, jnp.int32)[number], jnp.asarray(grid, jnp.int32)[number]
        found = _mirrored(network, jax.lax.dynamic_slice(padded, (*at, 0), window_shape), layout, mirror_axes)
        z, y, x = (jnp.asarray(shares)[of[axis]] for axis, shares in enumerate(layout.shares))
        weighted = found * (z[:, None, None, None] * y[:, None, None] * x[:, None])
        there = jax.lax.dynamic_slice(sums, (*at, 0), weighted.shape)
        return jax.lax.dynamic_update_slice(sums, there + weighted, (*at, 0))

    sums = jnp.zeros((*layout.padded, answer.shape[-1]), jnp.float32)
    sums = jax.lax.fori_loop(0, len(grid), add, sums)
    return sums[tuple(slice(start, start + n) for start, n in zip(layout.margins, layout.shape, strict=True))]


def _mirrored(
    network: Logits, window: Float32[Array, "p q r c"], layout: Layout, mirror_axes: Sequence[int]
) -> Float32[Array, "p q r k"]:
    """The mean over all flips of some axes of the patch, one after the other, so that the program has one network."""
    batch = window if layout.flat else window[None]
    axes = [axis + 1 for axis in mirror_axes]

    def flipped(x: Array, number: Array | int) -> Array:
        for bit, axis in enumerate(axes):
            x = jnp.where((number >> bit) & 1, jnp.flip(x, axis), x)
        return x

    def add(number: Array, total: Array) -> Array:
        return total + flipped(network(flipped(batch, number)), number)

    total = network(batch)
    if axes:
        total = jax.lax.fori_loop(1, 2 ** len(axes), add, total) / 2 ** len(axes)
    return total if layout.flat else total[0]
