"""A function of jax as StableHLO, with its facts, in one zip file that needs only jax to load."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unet_jax.errors import InputError
from unet_jax.models.fast import tracing

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
    with tracing.tracing_for(tracing.ANY_MACHINE):
        return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(like).serialize())


def run(program: bytes, image: np.ndarray) -> Any:
    """The result, or results, of a program for `image`."""
    return jax.tree.map(np.asarray, jax.export.deserialize(bytearray(program)).call(image))


def load(path: Path) -> tuple[Callable[[np.ndarray], Any], dict[str, Any]]:
    """The program of a file that `pack` made, as a function of images, and its facts.

    Raises:
        InputError: the file is not such a file, or is too old, or too new, for this version of jax.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            program, facts = bytearray(archive.read(PROGRAM)), json.loads(archive.read(METADATA))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not an export ({error}): make one with --mode=export.") from None
    try:
        exported = jax.export.deserialize(program)
    except Exception as error:  # jax, flatbuffers and XLA have kinds of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} was exported by jax {facts.get('jax')}, and jax {jax.__version__} cannot read it ({reason}). jax "
            "promises to read a file for six months after the version that wrote it, and an older jax a newer one's "
            "for three weeks: export again from the run or its pack, which have no such limit, or install "
            f"jax=={facts.get('jax')} beside it."
        ) from None
    return lambda image: jax.tree.map(np.asarray, exported.call(image)), facts


def pack(program: bytes, facts: Mapping[str, Any]) -> bytes:
    """The zip file of program and facts; the same bytes for the same arguments."""
    contents = {PROGRAM: program, METADATA: json.dumps(facts, indent=2, allow_nan=False).encode()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()
