"""A compiled function and its facts in one zip file, which jax alone can load: StableHLO by jax.export."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, METADATA = "network.stablehlo", "metadata.json"
# A pixel's side is the only thing that may be left open besides the batch: a slab's depth is the network's own.
OPEN = {2: "b, h, w, {channels}", 3: "b, {slab}, h, w, {channels}"}


def trace(network: Callable[[jax.Array], jax.Array], image: np.ndarray) -> bytes:
    """`network` for images like `image`, [b, h, w, c] or [b, slab, h, w, c], of any b, h and w, on any of PLATFORMS."""
    *_, channels = image.shape
    shape = OPEN[image.ndim - 2].format(slab=image.shape[1], channels=channels)
    like = jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape), image.dtype)
    exported = jax.export.export(jax.jit(network), platforms=PLATFORMS)(like)
    return bytes(exported.serialize())


def interface(image: np.ndarray, classes: Sequence[str] = ()) -> dict[str, Any]:
    """What goes into a program of `trace` and what comes out, for the facts of `pack`.

    `classes` are the names of several; empty for one.
    """
    channels = [1 + len(classes)] if classes else []
    meaning = f"probabilities of {', '.join(['background', *classes])}" if classes else "probability of tumour"
    depth = list(image.shape[1:-3])
    return {
        "input": {"shape": ["batch", *depth, "height", "width", image.shape[-1]], "dtype": str(image.dtype)},
        "output": {"shape": ["batch", *depth, "height", "width", *channels], "dtype": "float32", "is": meaning},
    }


def run(program: bytes, image: np.ndarray) -> Float32[np.ndarray, "*batch"]:
    """What a program of `trace` answers to `image`."""
    return np.asarray(jax.export.deserialize(bytearray(program)).call(image))


def pack(program: bytes, facts: Mapping[str, Any]) -> bytes:
    """The zip file; the same bytes for the same arguments."""
    contents = {PROGRAM: program, METADATA: json.dumps(facts, indent=2, allow_nan=False).encode()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()
