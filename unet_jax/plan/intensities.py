"""The intensities of a channel's foreground over a whole data set, as fingerprints and plans hold them."""

import dataclasses
import itertools
from typing import Any

from unet_jax.plan.fields import NUMBER, Fields, number, written


@dataclasses.dataclass(frozen=True)
class Intensities:
    """Statistics of a channel, in the files' own range."""

    max: float
    mean: float
    median: float
    min: float
    percentile_00_5: float
    percentile_99_5: float
    std: float


_KINDS = {field.name: NUMBER for field in dataclasses.fields(Intensities)} | {"std": number(least=0)}


def to_json(channels: tuple[Intensities, ...]) -> dict[str, dict[str, float]]:
    """The statistics by channel number, in the keys and the order of nnU-Net."""
    return {str(index): dataclasses.asdict(each) for index, each in enumerate(channels)}


def from_fields(fields: Fields, faults: list[str]) -> tuple[Intensities, ...]:
    """The statistics of an object whose keys are channel numbers from 0; what is wrong is added to `faults`."""
    names = list(fields.rest())
    if set(names) != {str(index) for index in range(len(names))}:
        faults.append(f"{fields.where} has the channels {', '.join(map(written, names))}: they must count from 0.")
        return ()
    found = []
    for index in range(len(names)):
        channel = fields.inner(str(index))
        values: dict[str, Any] = {name: channel.take(name, kind) for name, kind in _KINDS.items()}
        channel.close()
        if None not in values.values():
            found.append(Intensities(**values))
            faults += _disorder(found[-1], channel.where)
    return tuple(found)


def _disorder(one: Intensities, where: str) -> list[str]:
    rising = ("min", "percentile_00_5", "median", "percentile_99_5", "max")
    return [
        f"{where}.{low} is {getattr(one, low):g}: it must not be above {high}, which is {getattr(one, high):g}."
        for low, high in itertools.pairwise(rising)
        if getattr(one, low) > getattr(one, high)
    ]
