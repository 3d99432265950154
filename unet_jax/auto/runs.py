"""The runs that a choice is made from: each configuration of a plan on each fold, a folder each."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.crossval import folds
from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.plan import plan_file
from unet_jax.plan.plans import Plans
from unet_jax.run import folder as run_folder


@dataclasses.dataclass(frozen=True)
class Run:
    """A configuration on a fold.

    Attributes:
        configuration: of the plan.
        fold: from 0.
        folder: of the run.
    """

    configuration: str
    fold: int
    folder: Path

    @property
    def name(self) -> str:
        """What a message calls it."""
        return f"{self.configuration}, fold {self.fold}"

    @property
    def state(self) -> str:
        """How far it is: "done", which is trained to its end and scored, "begun" or "not begun"."""
        if folds.is_scored(self.folder):
            return "done"
        return "begun" if (self.folder / run_folder.CONFIG).exists() else "not begun"

    @property
    def checkpoint_step(self) -> int:
        """Of the network that was scored; of a run that is done."""
        return read_json(self.folder / run_folder.EVALUATION / "test" / "metrics.json")["checkpoint_step"]


def folder_of(workdir: Path, configuration: str, fold: int) -> Path:
    """Where a run lies: a configuration's folder is that of a cross-validation."""
    return folds.folder_of(workdir / configuration, fold)


def runs_of(workdir: Path, configurations: Sequence[str], numbers: Sequence[int]) -> list[Run]:
    """Each configuration on each fold, one configuration after the other."""
    return [Run(name, number, folder_of(workdir, name, number)) for name in configurations for number in numbers]


def begun(workdir: Path) -> list[Run]:
    """The runs that lie in a folder, in the order of its plan; none where it is not such a folder."""
    if not (workdir / plan_file.NAME).exists() or (workdir / run_folder.CONFIG).exists():
        return []
    names = plan_file.read_plans(workdir / plan_file.NAME).configurations
    return [
        run
        for name in names
        for run in runs_of(workdir, [name], run_folder.fold_numbers(workdir / name))
        if run.state != "not begun"
    ]


def configurations_of(config: ConfigDict, plans: Plans) -> tuple[list[str], list[str]]:
    """The configurations that are trained, first stages before what they are for, and a line for each left out.

    Raises:
        InputError: none of those that the config names can be trained.
    """
    numbers = fold_numbers(config)
    chosen: dict[str, None] = {}
    lines = []
    for name in config.plan.configurations:
        each = plans.configurations.get(name)
        if each is None:
            lines.append(f"{name} is left out: the plan has no such configuration.")
            continue
        if each.previous_stage and len(numbers) < config.data.folds:
            lines.append(
                f"{name} is left out: it needs the masks of all {config.data.folds} folds of {each.previous_stage}, "
                f"and config.plan.folds is {config.plan.folds}."
            )
            continue
        if each.previous_stage and each.previous_stage not in config.plan.configurations:
            lines.append(f"{each.previous_stage} is trained too: {name} needs its masks.")
        chosen |= dict.fromkeys([each.previous_stage, name] if each.previous_stage else [name])
    if not chosen:
        raise InputError(
            f"config.plan.configurations={tuple(config.plan.configurations)}: none of them can be trained; the plan "
            f"has {', '.join(plans.configurations)}: choose of these."
        )
    return list(chosen), lines


def fold_numbers(config: ConfigDict) -> range:
    """The folds that are trained.

    Raises:
        InputError: there are no folds, or fewer than are asked for.
    """
    count = config.data.folds if config.plan.folds is None else config.plan.folds
    if config.data.folds < 2 or not 1 <= count <= config.data.folds:
        raise InputError(
            f"config.plan.folds is {config.plan.folds} of config.data.folds={config.data.folds}: folds must be 2 or "
            "more, and at least one of them be trained."
        )
    return range(count)


def recipe(config: ConfigDict, run: Run) -> ConfigDict:
    """The config of one run: what it would be trained with alone."""
    alone = config.copy_and_resolve_references()
    with alone.unlocked():
        alone.plan.update(configuration=run.configuration, configurations=None, folds=None)
        alone.data.fold = run.fold
    return alone
