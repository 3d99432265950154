"""Configurations that name another whose values they have, in files: resolved on reading, left out on writing."""

from collections.abc import Callable
from typing import Any

from unet_jax.plan.fields import Fields, Kind, written
from unet_jax.plan.plans import Configuration

KEY = "inherits_from"


def _read_objects(values: Any) -> dict[str, dict]:
    if not isinstance(values, dict) or not values or not all(isinstance(each, dict) for each in values.values()):
        raise ValueError
    return values


CONFIGURATIONS = Kind("an object of one configuration or more, each an object {…}", _read_objects)


def read_all(
    configurations: dict[str, dict] | None, read: Callable[[Fields], Configuration | None], faults: list[str]
) -> dict[str, Configuration]:
    """Every configuration of a file, read with what it inherits; a mistake is a line where it stands in the file alone.

    Args:
        configurations: by name, as the file has them; None where it has none.
        read: makes one of its values, or adds to the faults of the values.
        faults: where mistakes are added.
    """
    found = {}
    for name, values in _resolved(configurations or {}, faults).items():
        fields = Fields(values, f"configurations.{name}", [])
        if (configuration := read(fields)) is not None:
            found[name] = configuration
        written_here = tuple(fields.place(key) for key in configurations[name])
        is_heir = KEY in configurations[name]
        faults += [line for line in fields.faults if not is_heir or line.startswith(written_here)]
    return found


def _resolved(configurations: dict[str, dict], faults: list[str]) -> dict[str, dict]:
    """Every configuration with all its values; own values win, whole.

    Source: nnunetv2 2.8.1, utilities/plans_handling/plans_handler.py.

    Args:
        configurations: by name, as the file has them.
        faults: where a name that does not exist, and a circle of names, is added as a line.

    Returns:
        Those that can be resolved.
    """
    found = {}
    for name in configurations:
        chain, fault = _chain(name, configurations)
        if fault is not None:
            faults.append(fault)
        if fault is None and chain:
            values = {}
            for each in reversed(chain):
                values |= configurations[each]
            found[name] = values
    return found


def _chain(name: str, configurations: dict[str, dict]) -> tuple[list[str], str | None]:
    """The names from a configuration to its first ancestor; or what is wrong, said of one of them alone."""
    chain = [name]
    while KEY in configurations[chain[-1]]:
        last = chain[-1]
        parent = configurations[last][KEY]
        if not isinstance(parent, str) or parent not in configurations:
            line = f"configurations.{last}.{KEY} is {written(parent)}: there is no such configuration."
            return [], line if last == name else None
        if parent in chain:
            circle = chain[chain.index(parent) :]
            line = f"configurations.{parent}.{KEY} leads back to itself ({' → '.join([*circle, parent])})."
            return [], f"{line[:-1]}: let one of them have values of its own." if name == min(circle) else None
        chain.append(parent)
    return chain, None


def own(values: dict[str, Any], parent: dict[str, Any] | None) -> dict[str, Any]:
    """A configuration as a file has it: without what its parent says already."""
    if parent is None:
        return values
    return {key: value for key, value in values.items() if key == KEY or key not in parent or parent[key] != value}
