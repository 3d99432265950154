"""A plan as a table, for reading."""

from collections.abc import Iterable

from unet_jax.plan.configurations import CASCADE, FULLRES, LOWRES, SLICES
from unet_jax.plan.plans import Configuration, Plans

HEAD = ("configuration", "spacing, mm", "median case", "patch", "batch", "stages", "features")
ORDER = (SLICES, LOWRES, FULLRES, CASCADE)


def table(plans: Plans) -> str:
    """A line for each configuration of a plan; those that somebody added come last."""
    names = [name for name in ORDER if name in plans.configurations]
    names += [name for name in plans.configurations if name not in ORDER]
    rows = [HEAD, *(_row(name, plans.configurations[name]) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _row(name: str, each: Configuration) -> tuple[str, ...]:
    features = each.network.features if each.network else ()
    return (
        name,
        _by(each.spacing),
        _by(each.median_shape),
        _by(each.patch_size),
        str(each.batch_size),
        str(len(features)) if features else "",
        f"{features[0]}…{features[-1]}" if features else "",
    )


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _by(values: Iterable[int | float]) -> str:
    return "×".join(f"{value:.4g}" for value in values)
