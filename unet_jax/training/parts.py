"""Parts of a network by name: which are frozen, and which learn at a rate of their own.

A part is the start of a parameter's path: "encoder", or "encoder/0" for its first block.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import optax
from flax import nnx

from unet_jax.errors import InputError
from unet_jax.run.manifest import named_leaves


def names(text: str | None) -> tuple[str, ...]:
    """The parts that config.train.freeze names: "encoder" or "stem, encoder"; none of None."""
    return tuple(part.strip().strip("/") for part in text.split(",") if part.strip()) if text else ()


def rates(text: str | None) -> dict[str, float]:
    """The factors that config.optim.part_rates names: "encoder=0.1, encoder/0=0.01"; none of None.

    Raises:
        InputError: it is not of that form, or a factor is not above 0.
    """
    found = {}
    for part in names(text):
        name, _, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            found[name.strip()] = 0.0
    if wrong := [name for name, factor in found.items() if not 0 < factor < float("inf")]:
        raise InputError(
            f"config.optim.part_rates is {text!r}: {wrong[0]} needs a factor above 0, as in 'encoder=0.1'; what "
            "shall not learn at all is named by config.train.freeze."
        )
    return found


def check(key: str, parts: Iterable[str], params: Mapping[str, Any]) -> None:
    """Raises InputError for a part that has no parameter; the line lists those that there are.

    Args:
        key: of the config that names them.
        parts: their names.
        params: of the network.
    """
    paths = named_leaves(params)
    if missing := [part for part in parts if not any(_is_in(path, part) for path in paths)]:
        there = ", ".join(dict.fromkeys(path.split("/")[0] for path in paths))
        raise InputError(f"config.{key} names {', '.join(missing)}, and the network's parts are {there}.")


def keep(parts: Sequence[str], old: Any, new: Any) -> Any:
    """The tree `new`, but with `old`'s leaves in these parts."""
    return jax.tree_util.tree_map_with_path(
        lambda path, before, after: before if _lies_in(path, parts) else after, old, new
    )


def without_gradient(parts: Sequence[str], params: Any) -> Any:
    """`params`, of which these parts have a gradient of 0 that is not computed."""
    return keep(parts, jax.lax.stop_gradient(params), params) if parts else params


def predicting(model: nnx.Module, parts: Sequence[str]) -> nnx.Module:
    """The network in training mode, but for these parts' batch normalisation, which uses its running statistics."""
    if not parts:
        return model
    return nnx.view(
        model, only=lambda path, _: _lies_in(path, parts), use_running_average=True, raise_if_not_found=False
    )


def scaled(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the updates of each part by its factor, that of the longest name where several hold.

    After all else, this is a factor on the learning rate, weight decay included.
    """

    def update(updates: Any, params: Any = None) -> Any:
        del params
        return jax.tree_util.tree_map_with_path(lambda path, change: change * _factor(path, factors), updates)

    return optax.stateless(update)


def _factor(path: Sequence[Any], factors: Mapping[str, float]) -> float:
    return max(((len(part), of) for part, of in factors.items() if _lies_in(path, [part])), default=(0, 1.0))[1]


def _lies_in(path: Sequence[Any], parts: Sequence[str]) -> bool:
    name = "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
    return any(_is_in(name, part) for part in parts)


def _is_in(path: str, part: str) -> bool:
    return f"{path}/".startswith(f"{part}/")
