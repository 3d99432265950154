"""A function of jax as StableHLO, with its facts, in one zip file that needs only jax to load."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, METADATA = "network.stablehlo", "metadata.json"
# Rows and columns are open, like the batch; a slab's depth is fixed by the network.
OPEN = {2: "b, h, w, {channels}", 3: "b, {slab}, h, w, {channels}"}


def trace(network: Callable[[jax.Array], jax.Array], image: np.ndarray) -> bytes:
    """Serialises `network` for any b, h and w, on any of PLATFORMS.

    Args:
        network: of images, [b, h, w, c] or [b, slab, h, w, c].
        image: one of them, for its other sizes and its type.
    """
    *_, channels = image.shape
    shape = OPEN[image.ndim - 2].format(slab=image.shape[1], channels=channels)
    return _serialised(network, jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape), image.dtype))


def trace_fixed(function: Callable[[jax.Array], Any], image: np.ndarray) -> bytes:
    """Serialises a function of images of the shape and type of `image` alone, on any of PLATFORMS."""
    return _serialised(function, jax.ShapeDtypeStruct(image.shape, image.dtype))


def _serialised(function: Callable[[jax.Array], Any], like: jax.ShapeDtypeStruct) -> bytes:
    return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(like).serialize())


def axes(image: np.ndarray) -> list[str | int]:
    """The axes of a program of `trace` before its channels: names for those that are open."""
    return ["batch", *image.shape[1:-3], "height", "width"]


def run(program: bytes, image: np.ndarray) -> Any:
    """The result, or results, of a program for `image`."""
    return jax.tree.map(np.asarray, jax.export.deserialize(bytearray(program)).call(image))


def pack(program: bytes, facts: Mapping[str, Any]) -> bytes:
    """The zip file of program and facts; the same bytes for the same arguments."""
    contents = {PROGRAM: program, METADATA: json.dumps(facts, indent=2, allow_nan=False).encode()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()
