"""What a traced program computes, for tests."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def equations(jaxpr) -> Iterator:
    """Every equation of a jaxpr, those of the functions it calls included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def imprecise_products(function: Callable, *arguments: Any) -> list:
    """The products that run at the device's default precision: TF32 on a GPU, bfloat16 on a TPU, unseen on a CPU."""
    found = equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    products = [one for one in found if one.primitive.name in ("dot_general", "conv_general_dilated")]
    highest = jax.lax.Precision.HIGHEST
    return [one for one in products if one.params["precision"] not in (highest, (highest, highest))]
