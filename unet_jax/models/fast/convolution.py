"""Convolutions in 2-D and 3-D that run compiled code of this program's own on a CPU; all else is XLA's.

The gradient of the input is a convolution of the output's gradient again, and that of the kernel has code of its own.
See `native` and docs/performance.md.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from unet_jax.models.fast.native import cache, calls, machine
from unet_jax.models.fast.native.geometry import Axes, Geometry
from unet_jax.models.fast.tracing import ANY_MACHINE, SLABS, is_traced_for

# Zeros before and after, an axis.
Padding = tuple[tuple[int, int], ...]
NONE: Padding = ((0, 0),) * 3  # of volumes


def backend_for(shape: Sequence[Any]) -> str | None:
    """The backend that will run what is traced for `shape`, by jax's name: "cpu", "gpu" or "tpu".

    None if it is not known, as a size is symbolic or the program is for other machines, or if images are cut into
    slabs: see `tracing`.
    """
    is_known = all(isinstance(n, int) for n in shape) and not is_traced_for(ANY_MACHINE)
    return jax.default_backend() if is_known and not is_traced_for(SLABS) else None


def convolve(
    x: Float[Array, "b *spatial c"], kernel: Float[Array, "*size part d"], strides: Any, padding: Any, **options: Any
) -> Float[Array, "b *spatial2 d"]:
    """`jax.lax.conv_general_dilated`, to be given to `nnx.Conv`: same arguments, same result.

    On a CPU it computes in float32, which XLA widens bfloat16 to as well, and rounds once.
    """
    if not _suits(x, kernel, strides, padding, options):
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    wide, taps = x.astype(jnp.float32), kernel.astype(jnp.float32)
    if math.prod(kernel.shape[:-2]) == 1:
        return _mix(wide, taps.reshape(kernel.shape[-2:])).astype(x.dtype)
    pads, steps = explicit_padding(x.shape[1:-1], kernel.shape[:-2], strides, padding), tuple(strides)
    if x.ndim == 5:
        return _convolve(steps, pads, wide, taps).astype(x.dtype)
    # An image is a volume of one plane.
    return _convolve((1, *steps), ((0, 0), *pads), wide[:, None], taps[None])[:, 0].astype(x.dtype)


def has_code(x: Array) -> bool:
    """Whether compiled code runs what is traced for an array of images or volumes."""
    is_there = backend_for(x.shape) == "cpu" and machine.vectors() is not None
    return is_there and x.ndim in (4, 5) and len(x) > 0 and x.dtype in (jnp.float32, jnp.bfloat16, jnp.float16)


def _suits(x: Array, kernel: Array, strides: Any, padding: Any, options: Mapping[str, Any]) -> bool:
    """Whether there is compiled code for a convolution."""
    if not has_code(x) or not is_plain(options):
        return False
    pads = explicit_padding(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    if math.prod(kernel.shape[:-2]) == 1:
        return set(strides) == {1} and not any(sum(pads, ()))
    reach = [n + sum(pad) for n, pad in zip(x.shape[1:-1], pads, strict=True)]
    return all(n >= size for n, size in zip(reach, kernel.shape, strict=False))


def is_plain(options: Mapping[str, Any]) -> bool:
    """Whether these options of `jax.lax.conv_general_dilated` ask for neither dilation nor groups."""
    dilated = any(set(options.get(name) or (1,)) - {1} for name in ("lhs_dilation", "rhs_dilation"))
    return not dilated and options.get("feature_group_count", 1) == 1


def explicit_padding(shape: Sequence[int], size: Sequence[int], strides: Sequence[int], padding: Any) -> Padding:
    """The zeros before and after each axis, of `padding` as flax and jax take it, "SAME" or "VALID" included."""
    pads = lax.padtype_to_pads(shape, size, strides, padding) if isinstance(padding, str) else padding
    return tuple(map(tuple, pads))


def geometry(
    shape: Sequence[int], kernel: Sequence[int], strides: Axes, padding: Padding, output: Axes | None = None
) -> Geometry:
    """That of a convolution.

    Args:
        shape: of the input, [b, z, y, x, c].
        kernel: shape of the kernel, [r, s, t, c, d].
        strides: of the convolution.
        padding: of the input; what lies after it is not looked at if `output` is given.
        output: size of the output; None is what the input and its padding give.
    """
    axes = zip(shape[1:4], kernel[:3], strides, padding, strict=True)
    made = output or tuple((n + sum(pads) - size) // step + 1 for n, size, step, pads in axes)
    before = tuple(first for first, _ in padding)
    return Geometry(shape[0], shape[4], kernel[4], tuple(shape[1:4]), made, tuple(kernel[:3]), strides, before)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(
    strides: Axes, padding: Padding, x: Float[Array, "b z y x c"], kernel: Float[Array, "r s t c d"]
) -> Float[Array, "b z2 y2 x2 d"]:
    return calls.convolve(x, kernel, geometry(x.shape, kernel.shape, strides, padding))


def _forward(strides: Axes, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(strides, padding, x, kernel), (x, kernel)


def _backward(strides: Axes, padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    of_kernel = calls.kernel_gradient_of(x, gradient, geometry(x.shape, kernel.shape, strides, padding))
    return _input_gradient(strides, padding, x.shape, kernel, gradient), of_kernel


_convolve.defvjp(_forward, _backward)


def _input_gradient(
    strides: Axes,
    padding: Padding,
    shape: Sequence[int],
    kernel: Float[Array, "r s t c d"],
    gradient: Float[Array, "b z2 y2 x2 d"],
) -> Float[Array, "b z y x c"]:
    """The gradient of a convolution's input, of this shape.

    The input's sample i lies at i + before in what the kernel passes over. For stride s, that is s·j + p, and only the
    taps p, p + s, … have met it, in the outputs j, j - 1, …: so the samples q, q + s, … of an axis, of one p, are one
    convolution of the output's gradient without a stride.
    """
    turned = kernel.swapaxes(3, 4)
    before = [first for first, _ in padding]
    length = tuple(-(-n // step) for n, step in zip(shape[1:4], strides, strict=True))
    phases = []
    for phase in itertools.product(*map(range, strides)):
        places = [divmod(q + first, step) for q, first, step in zip(phase, before, strides, strict=True)]
        taps = turned[tuple(slice(p, None, step) for (_, p), step in zip(places, strides, strict=True))]
        if 0 in taps.shape:
            phases.append(jnp.zeros((shape[0], *length, shape[4]), gradient.dtype))
            continue
        pads = tuple((size - 1 - j, 0) for size, (j, _) in zip(taps.shape, places, strict=False))
        like = geometry(gradient.shape, taps.shape, (1, 1, 1), pads, length)
        phases.append(calls.convolve(gradient, jnp.flip(taps, (0, 1, 2)), like))
    # [phases z, y, x, b, z, y, x, c] → each phase beside the one before it.
    apart = jnp.stack(phases).reshape(*strides, shape[0], *length, shape[4])
    whole = [n * step for n, step in zip(length, strides, strict=True)]
    joined = apart.transpose(3, 4, 0, 5, 1, 6, 2, 7).reshape(shape[0], *whole, shape[4])
    return joined[:, : shape[1], : shape[2], : shape[3]]


@jax.custom_vjp
def _mix(x: Float[Array, "b *spatial c"], kernel: Float[Array, "c d"]) -> Float[Array, "b *spatial d"]:
    """A 1×1 convolution: XLA's product, but for the kernel's gradient, which is one as long as all pixels."""
    return x @ kernel


def _mix_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _mix(x, kernel), (x, kernel)


def _mix_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows = cache.rows(x.shape[1:-1], x.shape[-1] + gradient.shape[-1])
    flat_x, flat_gradient = (one.reshape(len(one), 1, *rows, one.shape[-1]) for one in (x, gradient))
    # The wider one in vectors.
    is_turned = x.shape[-1] > gradient.shape[-1]
    of_kernel = _product(flat_gradient, flat_x).T if is_turned else _product(flat_x, flat_gradient)
    like = geometry(flat_gradient.shape, (1, 1, 1, *kernel.T.shape), (1, 1, 1), NONE)
    return calls.convolve(flat_gradient, kernel.T[None, None, None], like).reshape(x.shape), of_kernel


def _product(one: Float[Array, "b 1 y x c"], other: Float[Array, "b 1 y x d"]) -> Float[Array, "c d"]:
    """The sum over all pixels of their products, as a 1×1 convolution's gradient of its kernel."""
    like = geometry(one.shape, (1, 1, 1, one.shape[-1], other.shape[-1]), (1, 1, 1), NONE)
    return calls.kernel_gradient_of(one, other, like)[0, 0, 0]


_mix.defvjp(_mix_forward, _mix_backward)
