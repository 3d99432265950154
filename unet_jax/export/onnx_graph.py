"""jax's operations as ONNX nodes: those that the networks here consist of.

What depends neither on the image nor on its size is computed while the graph is made: the weights of a resizing between
fixed sizes become constants, for instance.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from unet_jax.errors import InputError
from unet_jax.export.onnx_sizes import Sizes, Value, is_open

# jax's name → ONNX's, where arguments and meaning agree.
SAME = {
    "abs": "Abs",
    "add": "Add",
    "and": "And",
    "div": "Div",
    "eq": "Equal",
    "exp": "Exp",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "or": "Or",
    "sqrt": "Sqrt",
    "stop_gradient": "Identity",
    "sub": "Sub",
    "tanh": "Tanh",
}
# Operations that wrap others, and the parameter that holds those.
WRAPPERS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
RESHAPES = ("reshape", "expand_dims", "squeeze")
# The symbol for the number of images.
BATCH = "batch"


class Graph:
    """The nodes and constants so far.

    Attributes:
        nodes: in the order of computation.
        constants: arrays by name.
        sizes: of the image's open axes.
    """

    def __init__(self):
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.sizes = Sizes(self.node)

    def add(self, jaxpr: Jaxpr, consts: Sequence[Value], arguments: Sequence[Value]) -> list[Value]:
        """Adds the operations of `jaxpr`, and returns its results."""
        values: dict[Var, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def value_of(atom: Var | Literal) -> Value:
            return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            results = self._equation(eqn, [value_of(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, results, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def node(self, kind: str, inputs: Sequence[Value], output: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output, and returns the output's name."""
        import onnx

        output = output or f"x{len(self.nodes)}"
        names = [self._input(value) for value in inputs]
        self.nodes.append(onnx.helper.make_node(kind, names, [output], **attributes))
        return output

    def _input(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        name = f"c{len(self.constants)}"
        # ONNX Runtime has few operations in bfloat16.
        self.constants[name] = np.ascontiguousarray(value, _type(value.dtype)).reshape(value.shape)
        return name

    def _equation(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name, params = eqn.primitive.name, eqn.params
        if name in WRAPPERS:
            inner = params[WRAPPERS[name]]
            return self.add(inner.jaxpr, inner.consts, inputs)
        if name == "platform_index":
            # The branch for any kind of device.
            return [np.array(params["platforms"].index(None))]
        if name == "cond" and isinstance(inputs[0], np.ndarray):
            inner = params["branches"][int(inputs[0])]
            return self.add(inner.jaxpr, inner.consts, inputs[1:])
        if not any(isinstance(value, str) for value in inputs) and not _depends_on_size(eqn):
            return _computed(eqn, inputs)
        if name in SAME:
            return [self.node(SAME[name], inputs)]
        if name in RESHAPES:
            return [self._reshape(inputs[0], eqn.outvars[0].aval.shape)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise _unknown(name)
        return method(eqn, *inputs)

    def _reshape(self, x: Value, shape: Sequence[Any]) -> str:
        if sum(map(is_open, shape)) == 1:
            shape = [-1 if is_open(n) else n for n in shape]
        return self.node("Reshape", [x, self.sizes.of(shape)])

    def _broadcast_in_dim(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        shape = eqn.params["shape"]
        before = dict(zip(eqn.params["broadcast_dimensions"], eqn.invars[0].aval.shape, strict=True))
        x = self._reshape(x, [before.get(axis, 1) for axis in range(len(shape))])
        # Expanding to 1 leaves an axis as it is.
        shape = [1 if is_open(n) and (n == before.get(axis) or str(n) == BATCH) else n for axis, n in enumerate(shape)]
        return [self.node("Expand", [x, self.sizes.of(shape)])]

    def _concatenate(self, eqn: JaxprEqn, *parts: Value) -> list[Value]:
        return [self.node("Concat", parts, axis=eqn.params["dimension"])]

    def _stack(self, eqn: JaxprEqn, *parts: Value) -> list[Value]:
        axis = eqn.params["axis"]
        parts = [self.node("Unsqueeze", [part, np.array([axis])]) for part in parts]
        return [self.node("Concat", parts, axis=axis)]

    def _conv_general_dilated(self, eqn: JaxprEqn, x: Value, kernel: np.ndarray) -> list[Value]:
        """With channels second, as in ONNX; with a dilated input, as a transposed convolution."""
        params, numbers = eqn.params, eqn.params["dimension_numbers"]
        kernel = np.transpose(np.asarray(kernel), numbers.rhs_spec)
        size, lows, highs = kernel.shape[2:], *zip(*params["padding"], strict=True)
        x = self.node("Transpose", [x], perm=numbers.lhs_spec)
        if max(params["lhs_dilation"]) == 1:
            settings = {"strides": params["window_strides"], "dilations": params["rhs_dilation"]}
            x = self.node("Conv", [x, kernel], pads=[*lows, *highs], group=params["feature_group_count"], **settings)
        else:
            # The same sums, seen from the input: each sample adds its share of the flipped kernel.
            kernel = np.flip(kernel.swapaxes(0, 1), range(2, kernel.ndim))
            pads = [n - 1 - pad for pad, n in zip([*lows, *highs], [*size, *size], strict=True)]
            x = self.node("ConvTranspose", [x, kernel], pads=pads, strides=params["lhs_dilation"])
        return [self.node("Transpose", [x], perm=np.argsort(numbers.out_spec).tolist())]

    def _convert_element_type(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        return self._converted(x, eqn.params["new_dtype"])

    def _converted(self, x: Value, dtype: Any) -> list[Value]:
        import onnx

        return [self.node("Cast", [x], to=onnx.helper.np_dtype_to_tensor_dtype(_type(dtype)))]

    def _dot_general(self, eqn: JaxprEqn, left: Value, right: Value) -> list[Value]:
        (left_sums, right_sums), (left_batch, right_batch) = eqn.params["dimension_numbers"]
        ranks = [len(atom.aval.shape) for atom in eqn.invars]
        names = [[chr(ord("a") + axis) for axis in range(ranks[0])], [chr(ord("A") + axis) for axis in range(ranks[1])]]
        for mine, its in zip([*left_sums, *left_batch], [*right_sums, *right_batch], strict=True):
            names[1][its] = names[0][mine]
        batch = [names[0][axis] for axis in left_batch]
        free = [
            name
            for its, gone in zip(names, ([*left_sums, *left_batch], [*right_sums, *right_batch]), strict=True)
            for axis, name in enumerate(its)
            if axis not in gone
        ]
        equation = f"{''.join(names[0])},{''.join(names[1])}->{''.join([*batch, *free])}"
        return [self.node("Einsum", [left, right], equation=equation)]

    def _dim_as_value(self, eqn: JaxprEqn) -> list[Value]:
        return self._converted(self.sizes.scalar(eqn.params["dim"]), eqn.outvars[0].aval.dtype)

    def _gather(self, eqn: JaxprEqn, x: Value, start: Value) -> list[Value]:
        """A block at one place, as from indexing with slices and numbers."""
        if len(eqn.invars[1].aval.shape) != 1:
            raise _unknown("gather from several places")
        numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
        axes = list(numbers.start_index_map)
        [starts] = self._converted(start, np.int64)
        ends = self.node("Add", [starts, self.sizes.of([sizes[axis] for axis in axes])])
        x = self.node("Slice", [x, starts, ends, np.array(axes, np.int64)])
        return [self._reshape(x, eqn.outvars[0].aval.shape)]

    def _integer_pow(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        return [self.node("Pow", [x, np.array(eqn.params["y"], _type(eqn.invars[0].aval.dtype))])]

    def _iota(self, eqn: JaxprEqn) -> list[Value]:
        shape, axis = eqn.params["shape"], eqn.params["dimension"]
        numbers = self.node("Range", [np.array(0, np.int64), self.sizes.scalar(shape[axis]), np.array(1, np.int64)])
        numbers = self._reshape(numbers, [n if place == axis else 1 for place, n in enumerate(shape)])
        numbers = self.node("Expand", [numbers, self.sizes.of(shape)])
        return self._converted(numbers, eqn.params["dtype"])

    def _ne(self, eqn: JaxprEqn, left: Value, right: Value) -> list[Value]:
        del eqn
        return [self.node("Not", [self.node("Equal", [left, right])])]

    def _pad(self, eqn: JaxprEqn, x: Value, value: Value) -> list[Value]:
        lows, highs, inner = zip(*eqn.params["padding_config"], strict=True)
        if any(inner):
            raise _unknown("pad between samples")
        return [self.node("Pad", [x, self.sizes.of([*lows, *highs]), value])]

    def _reduce_max(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        return [self.node("ReduceMax", [x, np.array(eqn.params["axes"], np.int64)], keepdims=0)]

    def _reduce_sum(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        return [self.node("ReduceSum", [x, np.array(eqn.params["axes"], np.int64)], keepdims=0)]

    def _rev(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        axes = np.array(eqn.params["dimensions"], np.int64)
        last, first = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
        return [self.node("Slice", [x, last, first, axes, last])]

    def _rsqrt(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        del eqn
        return [self.node("Reciprocal", [self.node("Sqrt", [x])])]

    def _select_n(self, eqn: JaxprEqn, which: Value, false: Value, true: Value) -> list[Value]:
        del eqn
        return [self.node("Where", [which, true, false])]

    def _slice(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        starts, ends, strides = (eqn.params[key] for key in ("start_indices", "limit_indices", "strides"))
        numbers = (starts, ends, range(len(ends)), strides or [1] * len(ends))
        return [self.node("Slice", [x, *map(self.sizes.of, numbers)])]

    def _square(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        del eqn
        return [self.node("Mul", [x, x])]

    def _transpose(self, eqn: JaxprEqn, x: Value) -> list[Value]:
        return [self.node("Transpose", [x], perm=eqn.params["permutation"])]


def _depends_on_size(eqn: JaxprEqn) -> bool:
    """Whether an operation has an open size besides that of the batch."""
    sizes = [size for size in jax.tree.leaves(eqn.params, is_leaf=is_open) if is_open(size)]
    return eqn.primitive.name == "dim_as_value" or any(str(size) != BATCH for size in sizes)


def _computed(eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """The results of an operation on constants, with 1 for the size of the batch: ONNX repeats that by itself."""
    params = jax.tree.map(lambda one: 1 if is_open(one) else one, eqn.params, is_leaf=is_open)
    results = eqn.primitive.bind(*inputs, **params)
    return [np.asarray(one) for one in (results if eqn.primitive.multiple_results else [results])]


def _unknown(operation: str) -> InputError:
    return InputError(f"The network has the operation {operation}, which cannot be translated to ONNX: export to .zip.")


def _type(dtype: Any) -> np.dtype:
    """The type to compute in: float32 for all floats."""
    return np.dtype(np.float32) if jax.numpy.issubdtype(dtype, jax.numpy.floating) else np.dtype(dtype)
