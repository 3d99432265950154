"""What was chosen, in best.json: which configurations predict together, and how their masks are cleaned."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_jax.errors import InputError
from unet_jax.files import read_json, write_sealed_json
from unet_jax.inference.components import Step

NAME = "best.json"


@dataclasses.dataclass(frozen=True)
class Best:
    """The choice.

    Attributes:
        configurations: one, or two whose probabilities are averaged.
        folds: whose networks are averaged.
        postprocessing: what `components.apply` takes.
        results: what the choice rests on, for tables: see `choose.results`.
    """

    configurations: tuple[str, ...]
    folds: tuple[int, ...]
    postprocessing: tuple[Step, ...]
    results: Mapping[str, Any]


def write(workdir: Path, best: Best) -> None:
    """Writes best.json, sealed.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    write_sealed_json(workdir / NAME, dataclasses.asdict(best))


def read(workdir: Path) -> Best:
    """Reads best.json.

    Raises:
        InputError: it is missing or damaged.
    """
    path = workdir / NAME
    found = read_json(path)
    try:
        return Best(
            tuple(map(str, found["configurations"])),
            tuple(map(int, found["folds"])),
            _tuples(found["postprocessing"]),
            found["results"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a choice ({error!r}): remove it, and run the command again.") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
