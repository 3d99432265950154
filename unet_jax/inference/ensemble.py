"""What a folder predicts with: a run's network, or the mean over those of a cross-validation's folds."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.errors import InputError
from unet_jax.inference.averaged import averaged
from unet_jax.inference.network import Logits, Probability, load_network
from unet_jax.run import checkpoint, resume
from unet_jax.run import folder as run_folder
from unet_jax.run.checkpoint import Restored
from unet_jax.run.config import chosen_on_other_folds, flatten, read_config

# What folds may differ in, if each has a choice of its own.
CHOSEN = ("eval.threshold", "eval.postprocess.minimum_voxels")


@dataclasses.dataclass(frozen=True)
class Runs:
    """One run, or the folds of a cross-validation.

    Attributes:
        folders: of each.
        config: of all, but for the fold; of thresholds that folds have chosen on their validation sides, their mean.
    """

    folders: tuple[Path, ...]
    config: ConfigDict

    @property
    def first(self) -> Path:
        """The folder that says what is the same for all: channels, classes and plan."""
        return self.folders[0]


def find(workdir: Path, *, flips: bool | None = None, tiles: bool | None = None) -> Runs:
    """The runs in a folder.

    Args:
        workdir: of a run, or of a cross-validation.
        flips: takes the place of config.eval.tta; None leaves it.
        tiles: takes the place of config.eval.tiles; None leaves it.

    Raises:
        InputError: there is none, or folds differ in more than the fold.
    """
    folders = [] if (workdir / run_folder.CONFIG).exists() else run_folder.folds_of(workdir)
    folders = folders or [workdir]
    configs = [read_config(folder, flips=flips, tiles=tiles) for folder in folders]
    config = configs[0]
    for folder, other in zip(folders, configs, strict=True):
        keys = _differing(config, other)
        if keys:
            raise InputError(
                f"{folders[0]} and {folder} differ in {', '.join(keys)}: predict with one of them, or train the fold "
                "again."
            )
    if len(configs) > 1 and config.eval.choose:
        # Each fold's choice is for its own test side, and is made without it; all folds together choose for others.
        config.update_from_flattened_dict(chosen_on_other_folds(workdir))
    else:
        config.eval.threshold = sum(other.eval.threshold for other in configs) / len(configs)
    return Runs(tuple(folders), config)


def _differing(one: ConfigDict, other: ConfigDict) -> list[str]:
    here, there = dict(_compared(one)), dict(_compared(other))
    return sorted(f"config.{key}" for key in here.keys() | there.keys() if here.get(key) != there.get(key))


def _compared(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    for key, value in flatten(config.to_dict()).items():
        chosen = (config.eval.choose and key in CHOSEN) or (config.eval.choose_threshold and key == CHOSEN[0])
        if key not in ("data.fold", run_folder.FINGERPRINT) and not resume.is_harmless(key) and not chosen:
            yield key, value


def load(runs: Runs, mesh: Mesh) -> tuple[Probability | Logits, list[Restored], list[str]]:
    """The mean of the runs' networks, the checkpoint of each, and a line for each checkpoint that is damaged.

    Raises:
        InputError: a run has no checkpoint, or one that does not fit its config.
        DamageError: no checkpoint of a run is whole.
    """
    networks, checkpoints, lines = [], [], []
    for folder in runs.folders:
        network, restored = load_network(folder, runs.config, mesh)
        networks.append(network)
        checkpoints.append(restored)
        lines += checkpoint.warnings(folder / run_folder.CHECKPOINTS, restored)
    return averaged(networks), checkpoints, lines
