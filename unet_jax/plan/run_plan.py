"""The plan by which a run on patches is trained, and with which everything after it preprocesses and restores cases."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax.data import regions
from unet_jax.data.load import DataSet
from unet_jax.data.regions import Classes
from unet_jax.errors import InputError
from unet_jax.plan import make, plan_file, planner
from unet_jax.plan.dataset import Dataset, labels_of
from unet_jax.plan.fields import raise_faults
from unet_jax.plan.fingerprint import take_fingerprint
from unet_jax.plan.network import Network
from unet_jax.plan.normalisation import CROPPED
from unet_jax.plan.plans import Configuration, Plans, contradictions
from unet_jax.plan.preprocess import configuration_of
from unet_jax.plan.resample import IMAGES, LOGITS, MASKS
from unet_jax.wording import count

# The configuration of a plan that is made of the config alone.
OWN = "patches"
# Foreground voxels that such a plan's intensities are of: nothing depends on them.
SAMPLES = 10**6
NETWORKS = ("nnunet", "resenc")


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A plan, and what of it a run trains.

    Attributes:
        plans: the whole plan, as plan.json has it.
        name: of the run's configuration.
        dataset: its labels and channels.
    """

    plans: Plans
    name: str
    dataset: Dataset

    @property
    def configuration(self) -> Configuration:
        """The run's."""
        return configuration_of(self.plans, self.name)


def describe(
    channels: Sequence[str], classes: Classes, cases: int = 1, name: str = "data", *, ignores: bool = False
) -> Dataset:
    """A data set in nnU-Net's terms: see `dataset.labels_of`."""
    labels = labels_of(classes, ignores=ignores)
    return Dataset(name, tuple(channels), labels, regions.painted(classes), training_cases=cases, file_ending="")


def describe_data(data: DataSet, root: Path) -> Dataset:
    """`describe` of a data set that was read from the folder `root`."""
    return describe(data.channel_names, data.classes, len(data.cases), root.resolve().name, ignores=data.ignores)


def read(workdir: Path, config: ConfigDict, channels: int, classes: Classes) -> RunPlan | None:
    """The plan of the run in a folder; None where it has no patches.

    Args:
        workdir: the run's folder.
        config: the run's.
        channels: of its images.
        classes: that its masks tell apart; empty for one.

    Raises:
        InputError: the plan is missing or damaged, or has no such configuration.
    """
    if config.data.patch is None:
        return None
    plans = plan_file.read_plans(workdir / plan_file.NAME)
    name = config.plan.configuration or OWN
    configuration_of(plans, name)
    return RunPlan(plans, name, describe([f"channel {number}" for number in range(channels)], classes))


def resolve(config: ConfigDict, data: DataSet, workdir: Path) -> tuple[ConfigDict, RunPlan | None]:
    """The plan of a run on patches, and its config with all that it leaves to the plan; without patches, as it was.

    A plan.json in `workdir` is taken as it is.

    Raises:
        InputError: the plan cannot be read or made, or does not go together with the config.
    """
    config = _without_none_tuples(config)
    if config.plan.configuration is None and config.data.patch is None:
        return config, None
    dataset = describe_data(data, Path(config.data.root))
    name, there = config.plan.configuration or OWN, workdir / plan_file.NAME
    plans = plan_file.read_plans(there) if there.exists() else None
    if plans is None or (config.plan.configuration is None and OWN not in plans.configurations):
        plans = _planned(config, data, dataset) if config.plan.configuration else _of_config(config, data, dataset)
    if len(plans.intensities) != data.channels:
        raise InputError(
            f"the plan is for {count(len(plans.intensities), 'channel')}, and the images have {data.channels}."
        )
    planned = configuration_of(plans, name)
    if planned.previous_stage and not config.plan.previous:
        raise InputError(
            f"config.plan.configuration={name!r} is given the masks of {planned.previous_stage}: name both in "
            "config.plan.configurations instead."
        )
    config = filled(config, planned) if config.plan.configuration else config
    chosen = _as_config_says(planned, config)
    plans = dataclasses.replace(plans, configurations={**plans.configurations, name: chosen})
    raise_faults(f"The plan's {name}, with what the config changes of it", _faults_of(plans, name))
    return config, RunPlan(plans, name, dataset)


def _faults_of(plans: Plans, name: str) -> list[str]:
    return [line for line in contradictions(plans) if line.startswith(f"configurations.{name}:")]


def _without_none_tuples(config: ConfigDict) -> ConfigDict:
    """The command line makes (None,) of None."""
    given = {"data.patch": config.data.patch, "data.spacing": config.data.spacing}
    empty = [key for key, value in given.items() if value == (None,)]
    if not empty:
        return config
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(dict.fromkeys(empty))
    return config


def _planned(config: ConfigDict, data: DataSet, dataset: Dataset) -> Plans:
    if config.plan.file is not None:
        return plan_file.read_plans(Path(config.plan.file))
    settings = make.settings(config.plan, None)
    return planner.plan(take_fingerprint(data.cases, lambda case: case), dataset, settings)


def _of_config(config: ConfigDict, data: DataSet, dataset: Dataset) -> Plans:
    """A plan of one configuration: the config's patch and spacing, axes as they are read."""
    patch, spacing = config.data.patch, config.data.spacing
    fingerprint = take_fingerprint(data.cases, lambda case: case, samples=SAMPLES)
    median_spacing = tuple(np.median(fingerprint.spacings, axis=0).tolist())
    median_shape = tuple(round(n) for n in np.median(fingerprint.shapes, axis=0).tolist())
    scheme = _scheme(config.data.intensity, data.cases[0].image.dtype)
    inside = scheme == "zscore" and fingerprint.relative_size < CROPPED
    enabled = spacing is not None
    images, masks, logits = (dataclasses.replace(each, enabled=enabled) for each in (IMAGES, MASKS, LOGITS))
    axes = len(patch)
    own = Configuration(
        spacing=median_spacing[-axes:],
        patch_size=tuple(patch),
        batch_size=config.train.batch_size,
        median_shape=median_shape[-axes:],
        normalisation=(scheme,) * data.channels,
        inside_only=(inside,) * data.channels,
        network=None,
        batch_dice=False,
        images=images,
        masks=masks,
        logits=logits,
        data=OWN,
    )
    return Plans(
        dataset=dataset.name,
        name="config",
        planner="none",
        reader=None,
        median_spacing=median_spacing,
        median_shape=median_shape,
        transpose_forward=(0, 1, 2),
        intensities=fingerprint.intensities,
        configurations={OWN: own},
    )


def _scheme(intensity: str, dtype: np.dtype) -> str:
    """What config.data.intensity means for patches: see configs/default.py."""
    is_8_bit = dtype == np.uint8
    if intensity == "volume" or (intensity == "auto" and not is_8_bit):
        return "zscore"
    return "rgb" if is_8_bit else "none"


def filled(config: ConfigDict, planned: Configuration) -> ConfigDict:
    """The config with the plan's values where it has None.

    Raises:
        InputError: its network is not one of those that plans describe.
    """
    if config.model.name not in NETWORKS:
        raise InputError(
            f"config.model.name is {config.model.name!r}, and the networks of plans are {' and '.join(NETWORKS)}: "
            "start from configs/nnunet.py."
        )
    network = {} if planned.network is None else dataclasses.asdict(planned.network)
    values: dict[str, Any] = {
        "data.patch": planned.patch_size,
        "data.spacing": planned.spacing if planned.images.enabled else None,
        "train.batch_size": planned.batch_size,
        "model.rank": planned.axes,
        **{f"model.{key}": value for key, value in network.items()},
    }
    if isinstance(config.loss.get("dice"), Mapping | ConfigDict):
        values["loss.dice.per_sample"] = not planned.batch_dice
    filled = config.copy_and_resolve_references()
    filled.unlock()
    for key, value in values.items():
        *groups, name = key.split(".")
        group = functools.reduce(lambda node, step: node[step], groups, filled)
        if group.get(name) is None:
            group[name] = value
    filled.lock()
    return filled


def _as_config_says(planned: Configuration, config: ConfigDict) -> Configuration:
    """The configuration that is trained: what the config gives takes the place of the plan's."""
    patch, spacing = tuple(config.data.patch), config.data.spacing
    for key, value in (("patch", patch), ("spacing", spacing)):
        if value is not None and not (len(value) == len(patch) in (2, 3) and all(_is_positive(n) for n in value)):
            raise InputError(f"config.data.{key} is {tuple(value)}: give two or three numbers above 0, one an axis.")
    if not all(isinstance(n, int) for n in patch):
        raise InputError(f"config.data.patch is {patch}: give whole numbers of voxels.")
    return dataclasses.replace(
        planned,
        patch_size=patch,
        spacing=planned.spacing if spacing is None else tuple(map(float, spacing)),
        batch_size=config.train.batch_size,
        network=_network(config.model) or planned.network,
    )


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _network(model: ConfigDict) -> Network | None:
    """The network that the config describes in the terms of a plan; None where it is described otherwise.

    Raises:
        InputError: something other than whole numbers describes it.
    """
    names = [field.name for field in dataclasses.fields(Network)]
    if model.name not in NETWORKS or not all(isinstance(model.get(name), bool | list | tuple) for name in names):
        return None
    given = {name: _tuples(model[name]) for name in names}
    for name in ("kernels", "strides"):
        # A number of a stage is that of each axis, as for the network itself.
        given[name] = tuple((each,) * model.rank if isinstance(each, int) else each for each in given[name])
    for name, values in given.items():
        if name != "residual" and not (isinstance(values, tuple) and _are_whole(values, name)):
            nested = ", or for each stage one an axis" if name in ("kernels", "strides") else ""
            raise InputError(
                f"config.model.{name} is {_tuples(model[name])}: give a whole number for each stage{nested}."
            )
    return Network(**given)


def _are_whole(values: tuple, name: str) -> bool:
    each = [n for of_stage in values for n in of_stage] if name in ("kernels", "strides") else values
    return all(isinstance(n, int) for n in each)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list | tuple) else value
