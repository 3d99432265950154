"""Plans a data set as nnU-Net does: its fingerprint in; spacings, networks, patch and batch sizes out.

`python -m unet_jax.plan.planner dataset_fingerprint.json dataset.json --preset=resenc_l` prints nnU-Net's plans.

Source: nnunetv2 2.8.1, experiment_planning/experiment_planners; Isensee et al. 2021 and 2024.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float64

from unet_jax.errors import InputError
from unet_jax.plan import nnunet_plans, normalisation, reasons
from unet_jax.plan.configurations import CASCADE, FULLRES, LOWRES, SLICES, Budget, Choice, Choices, choose
from unet_jax.plan.dataset import Dataset, read_dataset, reader_of
from unet_jax.plan.fingerprint import Fingerprint, read_fingerprint
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.presets import PRESETS
from unet_jax.plan.resample import IMAGES, LOGITS, MASKS, new_shape
from unet_jax.plan.spacing import target_spacing, transposition
from unet_jax.wording import count

# nnU-Net's ResEnc planners share the cases that the default one preprocesses.
SHARED = "nnUNetPlans"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a plan is made for.

    Attributes:
        preset: a name of `presets.PRESETS`.
        memory_gb: of the accelerator; the preset's own unless given.
        spacing: millimetres an axis, in the order in which cases are read, to resample to; found from the cases unless
            given.
        transpose: whether the axis of the largest spacing becomes the first.
        name: of the plan; the preset's own unless given.
    """

    preset: str = "default"
    memory_gb: int | float | None = None
    spacing: tuple[int | float, ...] | None = None
    transpose: bool = True
    name: str | None = None


def plan(fingerprint: Fingerprint, dataset: Dataset, settings: Settings | None = None) -> Plans:
    """The plan that nnU-Net makes of the same fingerprint.

    Raises:
        InputError: a setting is out of its range, the data set has other channels than the fingerprint, or no patch
            fits the memory.
    """
    settings = settings or Settings()
    _check(fingerprint, dataset, settings)
    preset = PRESETS[settings.preset]
    target = _target(fingerprint, settings)
    order = transposition(target) if settings.transpose else (0, 1, 2)
    axes = list(order)
    median = np.median(_resampled_shapes(fingerprint, target), axis=0)
    memory_gb = preset.memory_gb if settings.memory_gb is None else settings.memory_gb
    budget = Budget(preset, memory_gb, classes=len(dataset.labels), cases=dataset.training_cases)
    choices = choose(target[axes], median[axes], budget)
    schemes, inside_only = normalisation.choose(dataset.channels, fingerprint.relative_size)
    name = settings.name or preset.plans
    plans = Plans(
        dataset=dataset.name,
        name=name,
        planner=preset.planner,
        reader=reader_of(dataset, flat=bool((fingerprint.shapes[:, 0] == 1).all())),
        median_spacing=tuple(np.median(fingerprint.spacings, axis=0)[axes].tolist()),
        median_shape=tuple(round(n) for n in np.median(fingerprint.shapes, axis=0)[axes].tolist()),
        transpose_forward=order,
        intensities=fingerprint.intensities,
        configurations=_configurations(choices, schemes, inside_only, name, shares=preset.residual),
    )
    why = reasons.lines(plans, fingerprint, dataset, choices, budget, target=target, given=settings.spacing is not None)
    return dataclasses.replace(plans, reasons=why)


def _check(fingerprint: Fingerprint, dataset: Dataset, settings: Settings) -> None:
    if settings.preset not in PRESETS:
        raise InputError(f"config.plan.preset={settings.preset!r}: give one of {', '.join(PRESETS)}.")
    if settings.memory_gb is not None and not 0 < settings.memory_gb < math.inf:
        raise InputError(f"config.plan.memory_gb={settings.memory_gb:g}: give a number above 0.")
    given = settings.spacing
    if given is not None and not (len(given) == 3 and all(0 < edge < math.inf for edge in given)):
        raise InputError(f"config.plan.spacing={given}: give three numbers above 0, millimetres an axis.")
    names, found = dataset.channels, len(fingerprint.intensities)
    if len(names) != found:
        raise InputError(
            f"{dataset.name} has {count(len(names), 'channel')} ({', '.join(names)}) and its fingerprint {found}: take "
            "the fingerprint again."
        )


def _target(fingerprint: Fingerprint, settings: Settings) -> Float64[np.ndarray, " 3"]:
    if settings.spacing is not None:
        return np.array(settings.spacing, np.float64)
    return target_spacing(fingerprint.spacings, fingerprint.shapes.astype(np.float64))


def _resampled_shapes(fingerprint: Fingerprint, target: Float64[np.ndarray, " 3"]) -> list[tuple[int, int, int]]:
    grids = zip(fingerprint.shapes.tolist(), fingerprint.spacings.tolist(), strict=True)
    return [new_shape(tuple(shape), tuple(spacing), tuple(target.tolist())) for shape, spacing in grids]


def _configurations(
    choices: Choices, schemes: tuple[str, ...], inside_only: tuple[bool, ...], name: str, *, shares: bool
) -> dict[str, Configuration]:
    def configuration(kind: str, choice: Choice, batch_dice: bool, **more: str | tuple[str, ...]) -> Configuration:
        is_shared = shares and kind != LOWRES
        return Configuration(
            spacing=choice.spacing,
            patch_size=choice.patch.patch,
            batch_size=choice.patch.batch_size,
            median_shape=choice.median_shape,
            normalisation=schemes,
            inside_only=inside_only,
            network=choice.patch.network,
            batch_dice=batch_dice,
            images=IMAGES,
            masks=MASKS,
            logits=LOGITS,
            data=f"{SHARED if is_shared else name}_{kind}",
            **more,
        )

    found = {SLICES: configuration(SLICES, choices.slices, True)}
    if choices.has_cascade:
        found[LOWRES] = configuration(LOWRES, choices.lowres, False, next_stages=(CASCADE,))
    if choices.fullres is not None:
        found[FULLRES] = configuration(FULLRES, choices.fullres, choices.has_cascade)
    if choices.has_cascade:
        found[CASCADE] = dataclasses.replace(found[FULLRES], inherits_from=FULLRES, previous_stage=LOWRES)
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help lists what can be given.")


def main(arguments: Sequence[str]) -> int:
    """Prints nnU-Net's plans for its fingerprint, as the command line says, and returns the exit code."""
    parser = _Parser(prog="python -m unet_jax.plan.planner", allow_abbrev=False, description=main.__doc__)
    parser.add_argument("fingerprint", type=Path, help="dataset_fingerprint.json")
    parser.add_argument("dataset", type=Path, help="dataset.json")
    parser.add_argument("--preset", default="default", choices=PRESETS, help="which networks; default: %(default)s")
    parser.add_argument("--memory_gb", "--gpu_memory_target", type=float, help="of the accelerator")
    parser.add_argument(
        "--spacing", "--overwrite_target_spacing", nargs="+", metavar="MM", help="three numbers: 1 1 1, or 1,1,1"
    )
    parser.add_argument("--no_transpose", action="store_true", help="leaves the axes in the order of the files")
    parser.add_argument("--plans_name", "--overwrite_plans_name", help="the plans' name")
    parser.add_argument("--dataset_name", help="the data set's name; by default that of its folder")
    try:
        given = parser.parse_args(arguments)
        settings = Settings(
            preset=given.preset,
            memory_gb=given.memory_gb,
            spacing=_spacing(given.spacing),
            transpose=not given.no_transpose,
            name=given.plans_name,
        )
        dataset = read_dataset(given.dataset, given.dataset_name)
        plans = nnunet_plans.to_json(plan(read_fingerprint(given.fingerprint), dataset, settings))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(plans, indent=4))
    return 0


def _spacing(given: Sequence[str] | None) -> tuple[float, ...] | None:
    if given is None:
        return None
    parts = " ".join(given).replace(",", " ").strip("()[] ").split()
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise InputError(f"--spacing={' '.join(given)}: give three numbers above 0, millimetres an axis.") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
