"""Floating-point operations of a function's convolutions and matrix products, loops counted as often as they run."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count(function: Callable, *arguments: Any) -> int:
    """Operations of all convolutions and matrix products of `function(*arguments)`; a multiply-add counts two.

    XLA's cost analysis counts the body of a loop once. This follows what the function traces to: a scan as often as it
    runs, the costliest of alternatives, a `while` of unknown length once. The zeros that pad a convolution count like
    other samples, as is usual; XLA leaves them out.
    """
    # Traced as it is compiled: a program with options for the compiler cannot be part of another.
    program = function if isinstance(function, jax.stages.Wrapped) else jax.jit(function)
    return _of_jaxpr(program.trace(*arguments).jaxpr.jaxpr)


def gflop_by_xla(compiled: jax.stages.Compiled) -> float | None:
    """XLA's own count of a program's operations, in 10⁹; None where it has none."""
    flops = (compiled.cost_analysis() or {}).get("flops")
    return flops / 1e9 if flops else None


def _of_jaxpr(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, inner = equation.primitive.name, [_of_jaxpr(jaxpr) for jaxpr in _inner(equation.params)]
    match name:
        case "conv_general_dilated":
            return _of_convolution(equation)
        case "compiled_convolution":  # of `models.fast.native`
            return equation.params["operations"]
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        case "scan":
            return equation.params["length"] * sum(inner)
        case "cond":
            return max(inner, default=0)
    return sum(inner)


def _of_convolution(equation: Any) -> int:
    """Each output sample takes a product per sample of its kernel, less those with the zeros of a dilated input."""
    kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
    products = kernel.size // kernel.shape[numbers.rhs_spec[0]]
    dilation = math.prod(equation.params["lhs_dilation"])
    return 2 * equation.outvars[0].aval.size * products // (dilation * equation.params["batch_group_count"])


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters, closed or open, alone or in a sequence."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(one, "jaxpr", one)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
