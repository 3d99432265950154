"""Sums of windows' logits on the device, only as many slices deep as are under way.

Slice z of the volume lies in place z modulo the depth. Each sum is updated where it lies: its buffer is donated.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from unet_jax.inference.volume_windows import Layout

# Sizes are rounded up to a multiple of this, so that cases of about one size share their programs.
ROUND = 16
# Of the accelerator's free memory.
LARGEST_PART = 0.5


def rounded(size: int) -> int:
    """The size that an axis has on the device."""
    return -(-size // ROUND) * ROUND


class RollingSums:
    """The logits of some successive slices, of which windows are still to come.

    Attributes:
        array: the sums, slices in turn.
    """

    def __init__(self, layout: Layout, depth: int, channels: int, sharding: jax.sharding.Sharding):
        """Zeros.

        Args:
            layout: of the windows.
            depth: slices that are held.
            channels: of the logits.
            sharding: of the batches: the sums lie on its first device, or with the host where that has no room.
        """
        self._layout = layout
        shape = (depth, channels, rounded(layout.padded[1]), rounded(layout.padded[2]))
        self._device = _device_for(4 * int(np.prod(shape)), sharding)
        self.array = jnp.zeros(shape, jnp.float32, device=self._device)

    def places(self, slices: Int[np.ndarray, " n"] | range) -> Int[np.ndarray, " n"]:
        """Where slices of the padded volume lie."""
        return (np.asarray(slices, np.int32) % len(self.array)).astype(np.int32)

    def add(
        self,
        found: Float32[Array, "size *patch k"] | Float32[np.ndarray, "size *patch k"],
        batch: Int[np.ndarray, "b 3"],
    ) -> None:
        """Adds the logits of a batch's windows; what fills it up is left out."""
        pieces = self._pieces(batch)
        count = len(pieces["window"])
        room = 2 * len(found) - count
        padded = {name: np.pad(values, [(0, room)] + [(0, 0)] * (values.ndim - 1)) for name, values in pieces.items()}
        found = jax.device_put(found, self._device)
        self.array = _add(self.array, found[:, None] if self._layout.flat else found, padded, count)

    def clear(self, slices: range) -> None:
        """Makes room: slices that are no longer needed are 0 again."""
        if slices:
            places = np.zeros(len(self.array), np.int32)
            places[: len(slices)] = self.places(slices)
            self.array = _clear(self.array, places, len(slices))

    def _pieces(self, batch: Int[np.ndarray, "b 3"]) -> dict[str, np.ndarray]:
        """Each window as one piece, or as two where it goes on in the first place after the last one."""
        layout, depth, patch = self._layout, len(self.array), self._layout.patch[0]
        pieces = []
        for window, (z, y, x) in enumerate(batch.tolist()):
            place = layout.starts[0][z] % depth
            runs_over = place + patch > depth
            # Where a piece starts, and where the window's first slice would be, counted through.
            for start, origin in [(min(place, depth - patch), place), (0, place - depth)][: 1 + runs_over]:
                source = np.arange(start, start + patch) - origin
                inside = (source >= 0) & (source < patch)
                source = np.where(inside, source, 0)
                share = np.where(inside, layout.shares[0][z][source], 0)
                at = start, layout.starts[1][y], layout.starts[2][x]
                pieces.append((window, at, source, share, layout.shares[1][y], layout.shares[2][x]))
        names = "window", "at", "source", "slices", "rows", "columns"
        columns = (np.asarray(values) for values in zip(*pieces, strict=True))
        return {
            name: values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
            for name, values in zip(names, columns, strict=True)
        }


def has_room(size: int, memory: Mapping[str, int] | None) -> bool:
    """Whether so many bytes fit beside a network on a device of these `memory_stats`; a CPU has none."""
    if not memory or "bytes_limit" not in memory:
        return True
    return size < LARGEST_PART * (memory["bytes_limit"] - memory["bytes_in_use"])


def _device_for(size: int, sharding: jax.sharding.Sharding) -> jax.Device:
    device = min(sharding.addressable_devices, key=lambda each: each.id)
    if has_room(size, device.memory_stats()):
        return device
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves no CPU
        return device


@functools.partial(jax.jit, donate_argnums=0)
def _add(
    sums: Float32[Array, "d k h w"], found: Float32[Array, "b p q r k"], pieces: dict[str, Array], count: Array
) -> Float32[Array, "d k h w"]:
    def one(number: Array, sums: Array) -> Array:
        piece = {name: values[number] for name, values in pieces.items()}
        logits = found[piece["window"]][piece["source"]]
        share = piece["slices"][:, None, None] * piece["rows"][:, None] * piece["columns"]
        weighted = jnp.moveaxis(logits * share[..., None], -1, 1)
        z, y, x = piece["at"]
        there = jax.lax.dynamic_slice(sums, (z, 0, y, x), weighted.shape)
        return jax.lax.dynamic_update_slice(sums, there + weighted, (z, 0, y, x))

    return jax.lax.fori_loop(0, count, one, sums)


@functools.partial(jax.jit, donate_argnums=0)
def _clear(sums: Float32[Array, "d k h w"], places: Int[Array, " d"], count: Array) -> Float32[Array, "d k h w"]:
    zeros = jnp.zeros((1, *sums.shape[1:]), sums.dtype)
    return jax.lax.fori_loop(
        0, count, lambda i, sums: jax.lax.dynamic_update_slice_in_dim(sums, zeros, places[i], 0), sums
    )
