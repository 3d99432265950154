"""Open sizes in an ONNX graph: what jax writes of them, such as "max(height, width) - 2", as nodes."""

import ast
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

# The name of a tensor that depends on the image, or an array that does not.
Value = str | np.ndarray
# Adds a node of a kind with these inputs and attributes, and returns the name of its output.
AddNode = Callable[..., str]

OPERATORS: dict[type[ast.operator], str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}
FUNCTIONS = {"max": "Max", "min": "Min", "mod": "Mod"}


class Sizes:
    """The sizes of an image's open axes, and what is computed of them, as int64 tensors.

    Args:
        node: see `AddNode`.
    """

    def __init__(self, node: AddNode):
        self._node = node
        self._known: dict[str, Value] = {}

    def measure(self, image: str, shape: Sequence[Any]) -> None:
        """Takes the open sizes of `shape`, each a name, from the tensor `image`."""
        for axis, size in enumerate(shape):
            if is_open(size):
                self._known[str(size)] = self._node("Shape", [image], start=axis, end=axis + 1)

    def of(self, shape: Sequence[Any]) -> Value:
        """The sizes of a shape, [rank]; an array where none is open."""
        if not any(map(is_open, shape)):
            return np.array(shape, np.int64)
        return self._node("Concat", [self._one(size) for size in shape], axis=0)

    def scalar(self, size: Any) -> Value:
        """One size, without axes."""
        one = self._one(size)
        return one[0] if isinstance(one, np.ndarray) else self._node("Squeeze", [one])

    def _one(self, size: Any) -> Value:
        text = str(size)
        if text not in self._known:
            self._known[text] = self._computed(ast.parse(text.replace("^", "**"), mode="eval").body)
        return self._known[text]

    def _computed(self, tree: ast.expr) -> Value:
        """[1], of the grammar of `jax.export.symbolic_shape`."""
        match tree:
            case ast.Constant(value):
                return np.array([value], np.int64)
            case ast.Name(name):
                return self._known[name]
            case ast.UnaryOp(ast.USub(), operand):
                return self._node("Neg", [self._computed(operand)])
            case ast.BinOp(left, operator, right):
                return self._node(OPERATORS[type(operator)], [self._computed(left), self._computed(right)])
            case ast.Call(ast.Name("floordiv"), [left, right]):
                dividend, divisor = self._computed(left), self._computed(right)
                # ONNX rounds towards 0.
                whole = self._node("Sub", [dividend, self._node("Mod", [dividend, divisor])])
                return self._node("Div", [whole, divisor])
            case ast.Call(ast.Name(name), [left, right]):
                return self._node(FUNCTIONS[name], [self._computed(left), self._computed(right)])
        raise ValueError(f"not a size: {ast.unparse(tree)}")


def is_open(size: Any) -> bool:
    """Whether a size is a symbol of jax, or an expression of such."""
    return jax.export.is_symbolic_dim(size)
