"""A function of jax as an ONNX file, with its facts among the metadata."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from unet_jax.errors import InputError
from unet_jax.export.onnx_graph import BATCH, Graph
from unet_jax.export.onnx_sizes import is_open

OPSET, FILE_VERSION = 20, 10
INPUT, OUTPUT = "image", "probability"
METADATA = "unet_jax"
MISSING = "ONNX needs the packages onnx and onnxruntime: pip install .[onnx]"


def trace(network: Callable[[jax.Array], jax.Array], image: np.ndarray) -> bytes:
    """The bytes of an ONNX model of `network` for any number of images, of any rows and columns.

    Args:
        network: of images, [b, h, w, c] or [b, slab, h, w, c].
        image: one of them, for its other sizes and its type.

    Raises:
        InputError: the package onnx is missing, or the network has an operation that has no translation here.
    """
    *_, channels = image.shape
    return _translated(network, [BATCH, *image.shape[1:-3], "height", "width", channels], image.dtype)


def trace_fixed(network: Callable[[jax.Array], jax.Array], image: np.ndarray) -> bytes:
    """As `trace`, for any number of images of the size of `image`."""
    return _translated(network, [BATCH, *image.shape[1:]], image.dtype)


def _translated(network: Callable[[jax.Array], jax.Array], shape: Sequence[str | int], dtype: np.dtype) -> bytes:
    try:
        import onnx
    except ImportError:
        raise InputError(MISSING) from None
    sizes = jax.export.symbolic_shape(", ".join(map(str, shape)))
    closed = jax.make_jaxpr(network)(jax.ShapeDtypeStruct(sizes, dtype))
    graph = Graph()
    graph.sizes.measure(INPUT, sizes)
    [result] = graph.add(closed.jaxpr, [np.asarray(one) for one in closed.consts], [INPUT])
    graph.node("Identity", [result], output=OUTPUT)

    def tensor(name: str, aval: Any) -> onnx.ValueInfoProto:
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype))
        return onnx.helper.make_tensor_value_info(name, kind, [str(n) if is_open(n) else n for n in aval.shape])

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "unet_jax",
            [tensor(INPUT, closed.in_avals[0])],
            [tensor(OUTPUT, closed.out_avals[0])],
            initializer=[onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=FILE_VERSION,
        producer_name="unet_jax",
    )
    return model.SerializeToString()


def run(program: bytes, image: np.ndarray) -> Float32[np.ndarray, "*batch"]:
    """The result of a model of `trace` for `image`, on the CPU.

    Raises:
        InputError: the package onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(MISSING) from None
    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: image})[0]


def pack(program: bytes, facts: Mapping[str, Any]) -> bytes:
    """The model with `facts` as JSON among its metadata."""
    import onnx

    model = onnx.load_model_from_string(program)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(facts, allow_nan=False)})
    return model.SerializeToString()
