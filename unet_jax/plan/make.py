"""`--mode=plan`: takes a data set's fingerprint, plans for it, and writes both into the run's folder."""

import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.data import load, regions
from unet_jax.errors import InputError
from unet_jax.files import write_json
from unet_jax.plan import fingerprint as fingerprints
from unet_jax.plan import nnunet_plans, plan_file, planner, raw
from unet_jax.plan.dataset import Dataset, labels_of, read_dataset
from unet_jax.plan.fields import read_object
from unet_jax.plan.fingerprint import Fingerprint, take_fingerprint
from unet_jax.plan.planner import Settings
from unet_jax.plan.plans import Plans
from unet_jax.plan.table import table
from unet_jax.wording import count

FINGERPRINT = "fingerprint.json"
# What nnU-Net calls it.
NNUNET_FINGERPRINT = "dataset_fingerprint.json"
# Of plans: this project's plan.json alone, or nnU-Net's files beside it.
OWN, NNUNET = FORMATS = ("unet_jax", "nnunet")
# Of a plan, so that its file lies in the run's folder.
PLAIN_NAME = re.compile(r"\w[\w. -]*")


def make_plan(
    config: ConfigDict,
    workdir: Path,
    *,
    plan_format: str = OWN,
    overwrite: bool = False,
    device_memory_gb: float | None = None,
) -> Plans:
    """Plans for the config's data set, or takes the plan that config.plan.file names; prints it and writes it.

    Args:
        config: `config.data` names the data set, `config.plan` what to plan for.
        workdir: the run's folder, made if missing: gets fingerprint.json and plan.json.
        plan_format: "nnunet" also writes dataset_fingerprint.json, and the plan as nnU-Net has it, under its name.
        overwrite: replaces a file there that holds something else.
        device_memory_gb: of the accelerator at hand, where config.plan.device asks for it.

    Raises:
        InputError: a setting, the data set or the plan's file cannot be used, or a file is there already and holds
            something else, such as a plan that was edited.
        StorageError: the disk is full, read-only or failing.
    """
    if plan_format not in FORMATS:
        raise InputError(f"--format is {plan_format!r}; it must be one of {', '.join(FORMATS)}.")
    chosen = settings(config.plan, device_memory_gb)
    if config.plan.file is None:
        dataset, fingerprint = _fingerprint(config)
        plans = planner.plan(fingerprint, dataset, chosen)
        contents = {FINGERPRINT: fingerprints.to_json(fingerprint)}
    else:
        plans, contents = _read(Path(config.plan.file), config), {}
    contents[plan_file.NAME] = plan_file.to_json(plans)
    if plan_format == NNUNET:
        if FINGERPRINT in contents:
            contents[NNUNET_FINGERPRINT] = contents[FINGERPRINT]
        contents[_file_name(plans)] = nnunet_plans.to_json(plans)
    _write(workdir, contents, overwrite=overwrite)
    written = f"Written: {', '.join(str(workdir / name) for name in contents)}."
    source = "" if config.plan.file is None else f", from {config.plan.file}"
    print("\n".join([f"{plans.dataset}, {plans.name}{source}:", table(plans), *plans.reasons, written]), flush=True)
    return plans


def settings(given: ConfigDict, device_memory_gb: float | None) -> Settings:
    """What a plan is made for, from `config.plan` and the memory of the accelerator at hand, where it is asked for.

    Raises:
        InputError: keys contradict each other, or a value cannot be used.
    """
    if given.file is not None:
        others = [f"config.plan.{key}" for key in ("memory_gb", "spacing") if given[key] is not None]
        others += ["config.plan.device"] if given.device else []
        if others:
            raise InputError(
                f"{' and '.join(others)} change how a plan is made, and config.plan.file={given.file} is made already: "
                "give one or the other."
            )
    if given.device and given.memory_gb is not None:
        raise InputError(
            f"config.plan.device=True reads the memory that config.plan.memory_gb={given.memory_gb:g} gives: choose "
            "one of them."
        )
    # The command line makes (None,) of None.
    spacing = None if given.spacing == (None,) else given.spacing
    if spacing is not None and not all(isinstance(edge, int | float) for edge in spacing):
        raise InputError(f"config.plan.spacing={spacing}: give three numbers above 0, millimetres an axis.")
    return Settings(
        preset=given.preset,
        memory_gb=device_memory_gb if given.device else given.memory_gb,
        spacing=None if spacing is None else tuple(spacing),
    )


def _fingerprint(config: ConfigDict) -> tuple[Dataset, Fingerprint]:
    """Of nnU-Net's raw data sets as nnU-Net reads them; of all others as training does."""
    root = Path(config.data.root)
    if (root / raw.DESCRIPTION).exists():
        dataset = read_dataset(root / raw.DESCRIPTION)
        return dataset, take_fingerprint(raw.cases(root, dataset), lambda case: raw.read(case, dataset)[0])
    found = load.load(config)
    dataset = Dataset(
        name=root.resolve().name,
        channels=tuple(f"channel {number}" for number in range(found.channels)),
        labels=labels_of(found.classes, ignores=found.ignores),
        regions_order=regions.painted(found.classes),
        training_cases=len(found.cases),
        file_ending="",
    )
    return dataset, take_fingerprint(found.cases, lambda case: case)


def _read(path: Path, config: ConfigDict) -> Plans:
    """A plan that was made before, for the config's data set.

    Raises:
        InputError: it is damaged, or for images of other channels.
    """
    plans, description = plan_file.read_plans(path), Path(config.data.root, raw.DESCRIPTION)
    if description.exists():
        channels, planned = read_dataset(description).channels, len(plans.intensities)
        if len(channels) != planned:
            raise InputError(
                f"{path} is for images of {count(planned, 'channel')}, and {description} has {len(channels)} "
                f"({', '.join(channels)}): give a plan of this data set."
            )
    return plans


def _file_name(plans: Plans) -> str:
    """What nnU-Net looks for: the file has the plan's name."""
    name = f"{plans.name}.json"
    if not PLAIN_NAME.fullmatch(plans.name) or name in (plan_file.NAME, FINGERPRINT, NNUNET_FINGERPRINT):
        raise InputError(f"the plan's name, {plans.name!r}, cannot be that of a file: change it.")
    return name


def _write(workdir: Path, contents: dict[str, Any], *, overwrite: bool) -> None:
    edited = [name for name, content in contents.items() if not overwrite and _differs(workdir / name, content)]
    if edited:
        raise InputError(
            f"{workdir} has another {' and '.join(edited)} already: name another --workdir, or replace with "
            "--overwrite."
        )
    for name, content in contents.items():
        write_json(workdir / name, content)


def _differs(path: Path, content: Any) -> bool:
    """Whether there is a file that holds something else, or nothing that can be read."""
    if not path.exists():
        return False
    try:
        return read_object(path) != content
    except InputError:
        return True
