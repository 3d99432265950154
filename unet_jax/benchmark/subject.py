"""What is measured: a recipe on its data, prepared as a run prepares it, on slices, slabs or patches."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from unet_jax.data import load, splits
from unet_jax.data.labels import LabelMap
from unet_jax.data.load import DataSet
from unet_jax.errors import InputError
from unet_jax.inference.network import input_channels
from unet_jax.plan import run_plan
from unet_jax.plan.prepared_data import prepare_cases
from unet_jax.plan.run_plan import RunPlan
from unet_jax.run.folder import SPLIT
from unet_jax.training import samples, setup
from unet_jax.training.step import ON_DEVICE
from unet_jax.training.step_settings import StepSettings

# Epochs whose batches nobody will see the end of, few enough that their steps can be counted.
ENDLESS = sys.maxsize // 10**10


@dataclasses.dataclass(frozen=True)
class Subject:
    """A recipe and its data.

    Attributes:
        config: with all that a plan decides.
        data: all cases.
        index: (position in cases, slice) of the training side; none of the others.
        plan: of a recipe on patches.
    """

    config: ConfigDict
    data: DataSet
    index: samples.Index
    plan: RunPlan | None

    @classmethod
    def of(cls, config: ConfigDict, workdir: Path) -> "Subject":
        """Decodes the data, and of a recipe on patches plans and preprocesses them, without taking a device.

        Raises:
            InputError: the config or the data cannot be used.
        """
        if any(config.plan.configurations or ()) and not load.has_patches(config):
            names = ", ".join(config.plan.configurations)
            raise InputError(f"--mode=benchmark measures one configuration: set config.plan.configuration to {names}.")
        data = load.load(config)
        config, plan = run_plan.resolve(config, data, workdir)
        split, _ = setup.choose_split(config, data, workdir / SPLIT)
        index = {"train": splits.slices_of(split, data.cases, "train"), "val": np.zeros((0, 2), np.int32)}
        if plan is not None:
            prepare_cases(config, data, plan, np.unique(index["train"][:, 0]).tolist())
        return cls(config, data, index, plan)

    @property
    def classes(self) -> LabelMap:
        """Several that the masks tell apart; empty for one."""
        return self.data.classes

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels an axis of what the network sees, the finest first; pixels of a slice."""
        data = self.config.data
        if data.patch is not None:
            return tuple(data.patch)
        return (data.image_size,) * 2 if data.slab is None else (data.slab, *(data.image_size,) * 2)

    def step_settings(self, mesh: Mesh | None = None) -> StepSettings:
        """What its training step on this mesh is made of."""
        configuration = self.plan and self.plan.configuration
        return StepSettings.of(self.config, self.classes, configuration, ignores=self.data.ignores, mesh=mesh)

    def samples(self) -> samples.Samples:
        """The training side, with batches without end."""
        endless = self.config.copy_and_resolve_references()
        endless.train.epochs = ENDLESS
        if self.plan is None:
            return samples.of_slices(endless, self.data.cases, self.index)
        return samples.of_patches(endless, self.data, self.index, self.plan)

    def network_input(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """What the network predicts at a time: the batch's images, or windows, which are smaller than what is cut."""
        if self.plan is None:
            return batch["image"]
        channels = input_channels(self.config, self.data.channels, self.classes)
        return _random((len(batch["image"]), *self.size, channels), np.dtype(np.float32))


def for_device(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The part of a batch that goes to the devices."""
    return {key: array for key, array in batch.items() if key in ON_DEVICE}


def random_like(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Random numbers in a batch's shapes and types: zeros would make some devices faster."""

    def draw(key: str, array: np.ndarray) -> np.ndarray:
        if key == "size":  # of images that differ in it: how they lie in the batch
            return array
        return _random(array.shape, array.dtype, below=2 if key in ("mask", "previous") else 256)

    return {key: draw(key, array) for key, array in batch.items()}


def _random(shape: tuple[int, ...], dtype: np.dtype, below: int = 256) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, below, shape, dtype) if dtype.kind in "iu" else rng.random(shape, np.float32)
