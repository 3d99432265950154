"""Compiled convolutions as functions of jax arrays, each device working on its own volumes.

Arrays have an axis of groups in front, which devices may share, and kernels one for each group; XLA's partitioner is
told so. All else that compiled code is told stands in the program, so that a compilation cache finds it by its text.
"""

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jaxlib.mlir.dialects import sdy
from jaxtyping import Array, Float

from unet_jax.models.fast.native import cache, convolution, frame, kernel_gradient, machine, tiles
from unet_jax.models.fast.native.cache import Scratch
from unet_jax.models.fast.native.geometry import Geometry
from unet_jax.models.fast.native.tiles import Tile
from unet_jax.runtime.cpu_devices import cores

_WRITE = {"convolution": convolution.write, "kernel_gradient": kernel_gradient.write}


def convolve(
    x: Float[Array, "b z y x c"], kernel: Float[Array, "r s t c d"], like: Geometry
) -> Float[Array, "b z2 y2 x2 d"]:
    """The convolution of `like`, which has the sizes of both."""
    groups = math.gcd(like.batch, jax.device_count())
    flat = like.of_group(groups)
    tile = tiles.of_convolution(flat.features, flat.output[2], *machine.vectors())
    taps, blocks = cache.taps(flat, tile), cache.block(flat)
    scratch = cache.scratch_of_convolution(flat, tile, taps, blocks)

    # With more such axes in front, one after the other.
    @jax.custom_batching.sequential_vmap
    def made(x: Array, kernel: Array) -> Array:
        given = x.reshape(groups, -1, *x.shape[1:]), jnp.broadcast_to(kernel, (groups, *kernel.shape))
        return _call("convolution", tile, flat, given, taps, blocks, scratch)

    return made(x, kernel).reshape(like.batch, *like.output, like.features)


def kernel_gradient_of(
    x: Float[Array, "b z y x c"], gradient: Float[Array, "b z2 y2 x2 d"], like: Geometry
) -> Float[Array, "r s t c d"]:
    """The gradient of the kernel of `convolve`, where that of the output is `gradient`."""
    groups = math.gcd(like.batch, jax.device_count())
    flat = like.of_group(groups)
    tile = tiles.of_kernel_gradient(flat.features, flat.size[2] * flat.channels, *machine.vectors())
    blocks = cache.block(flat, 4 * flat.features)
    scratch = cache.scratch_of_kernel_gradient(flat, tile, blocks)

    @jax.custom_batching.sequential_vmap
    def made(x: Array, gradient: Array) -> Array:
        given = tuple(one.reshape(groups, -1, *one.shape[1:]) for one in (x, gradient))
        return _call("kernel_gradient", tile, flat, given, flat.size[:2], blocks, scratch).sum(0)

    return made(x, gradient)


def _call(
    kind: str,
    tile: Tile,
    like: Geometry,
    given: Sequence[Array],
    taps: tuple[int, int],
    blocks: tuple[int, int],
    scratch: Scratch,
) -> Array:
    """What compiled code makes of arrays [groups, …], for each group on its own."""
    groups = len(given[0])
    parts = parts_of(groups, cores(), jax.process_count())
    numbers = like.numbers() | {"parts": parts} | scratch._asdict()
    numbers |= {"taps_z": taps[0], "taps_y": taps[1], "block_z": blocks[0], "block_y": blocks[1]}
    made = (like.batch, *like.output) if kind == "convolution" else (*like.size, like.channels)
    return _compiled.bind(
        *given,
        target=_registered(kind, tile),
        shapes=((*made, like.features), (parts, scratch.scratch), (frame.notes(parts),)),
        numbers=tuple(sorted(numbers.items())),
        operations=2 * groups * like.products,
    )[0]


def parts_of(groups: int, cores: int, processes: int) -> int:
    """How many a group's work is done in, so that all cores of every process have some."""
    return max(1, cores * processes // groups)


_compiled = Primitive("compiled_convolution")
_compiled.multiple_results = True


@_compiled.def_abstract_eval
def _results(*given: Any, shapes: Sequence[Sequence[int]], **_: Any) -> list[jax.core.ShapedArray]:
    return [jax.core.ShapedArray((given[0].shape[0], *shape), jnp.float32) for shape in shapes]


@_compiled.def_impl
def _run(*given: Array, **settings: Any) -> list[Array]:
    return jax.jit(functools.partial(_compiled.bind, **settings))(*given)


def _lower(context: Any, *given: Any, target: str, numbers: Sequence[tuple[str, int]], **_: Any) -> Sequence[Any]:
    attributes = {
        "mhlo.frontend_attributes": mlir.ir.DictAttr.get({"num_batch_dims": mlir.ir.StringAttr.get("1")}),
        "sdy.sharding_rule": _sharing(context.avals_in, context.avals_out),
    }
    lowering = jax.ffi.ffi_lowering(target, extra_attributes=attributes)
    return lowering(context, *given, **{name: np.int64(value) for name, value in numbers})


def _sharing(given: Sequence[Any], made: Sequence[Any]) -> mlir.ir.Attribute:
    """The rule for XLA's partitioner (Shardy): first axes are one factor, and every other axis is its own."""
    sizes, mappings = [given[0].shape[0]], []
    for array in (*given, *made):
        factors = [0, *range(len(sizes), len(sizes) + len(array.shape) - 1)]
        sizes += array.shape[1:]
        axes = [sdy.DimMappingAttr.get(factor_indices=[factor]) for factor in factors]
        mappings.append(sdy.TensorMappingAttr.get(dim_mappings=axes))
    return sdy.OpShardingRuleAttr.get(sizes, mappings[: len(given)], mappings[len(given) :])


mlir.register_lowering(_compiled, _lower, platform="cpu")


@functools.cache
def _registered(kind: str, tile: Tile) -> str:
    """The name by which XLA calls what is compiled for this tile."""
    name = f"unet_jax_{kind}_{tile.name}"
    address = machine.compiled(
        name, lambda module: frame.handler(module, name, lambda b, n, arrays: _WRITE[kind](b, tile, n, arrays))
    )
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(ctypes.c_void_p(address)), platform="cpu")
    jax.ffi.register_ffi_target_as_batch_partitionable(name)
    return name
