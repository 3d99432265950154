"""A trained model of nnU-Net v2 as it lies on disk: plans, data set, and a network for each fold.

The folder is TRAINER__PLANS__CONFIGURATION with plans.json, dataset.json and fold_<k>/checkpoint_<kind>.pth, as
nnunetv2 2.8.1 writes it (training/nnUNetTrainer/nnUNetTrainer.py, save_checkpoint) and predicts with it
(inference/predict_from_raw_data.py, initialize_from_trained_model_folder).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from unet_jax import models
from unet_jax.errors import InputError
from unet_jax.models.pretrained import torch_names
from unet_jax.models.pretrained.torch_file import Tensor, TorchFile
from unet_jax.models.pretrained.torch_weights import fill
from unet_jax.plan.dataset import Dataset, read_dataset
from unet_jax.plan.network import Network
from unet_jax.plan.plan_file import read_plans
from unet_jax.plan.plans import Configuration, Plans
from unet_jax.plan.preprocess import configuration_of
from unet_jax.wording import count

PLANS, DATASET = "plans.json", "dataset.json"
CHECKPOINTS = ("final", "best", "latest")
# Fold "all" is a network that was trained on every case.
_FOLD = re.compile("fold_(all|0|[1-9][0-9]*)")
# Trainers that differ from nnUNetTrainer in length, data, loss or optimiser, and not in network and prediction.
_LENGTH = re.compile(r"nnUNetTrainer(_[0-9]+epochs?)?")
_VARIANTS = (
    "NoMirroring _onlyMirror01 NoDA _noDummy2DDA DA5 DA5ord0 DASegOrd0 _probabilisticOversampling "
    "_probabilisticOversampling_010 _probabilisticOversampling_033 DiceLoss CELoss DiceCELoss_noSmooth Topk10Loss "
    "Topk10LossLS01 DiceTopK10Loss Adam Adam1en3 Adam3en4 AdamW Adan Adan1en3 Adan3en4 CosAnneal _warmup "
    "NoDeepSupervision Benchmark_5epochs Benchmark_5epochs_noDataLoading"
)
TRAINERS = tuple(f"nnUNetTrainer{name}" for name in _VARIANTS.split())
# The parts of a module of PyTorch that were registered twice, and what wrappers put before every name.
_TWICE = ("decoder.encoder.", ".all_modules.")
_WRAPPERS = ("module.", "_orig_mod.")


@dataclasses.dataclass(frozen=True)
class Fold:
    """A trained network.

    Attributes:
        name: "all", or the number.
        params: of an `NNUNet`.
        steps: that it was trained for.
        path: of its checkpoint.
    """

    name: str
    params: dict
    steps: int
    path: Path


@dataclasses.dataclass(frozen=True)
class Model:
    """Networks of several folds, and what is done to a case before and after them.

    Attributes:
        plans: what plans.json says.
        dataset: what dataset.json says.
        name: of the configuration that was trained.
        trainer: the class that trained it.
        mirror_axes: of the patch, from 0, that predictions are averaged over.
        options: the network's, of `models.build`.
        folds: in the order that was asked for.
    """

    plans: Plans
    dataset: Dataset
    name: str
    trainer: str
    mirror_axes: tuple[int, ...]
    options: Mapping[str, Any]
    folds: tuple[Fold, ...]

    @property
    def configuration(self) -> Configuration:
        """The trained one of `plans`."""
        return configuration_of(self.plans, self.name)


def read(folder: Path, *, folds: Sequence[str] = (), checkpoint: str = "final") -> Model:
    """Reads a model's folder; what cannot be taken over whole is refused.

    Args:
        folder: of nnU-Net's model.
        folds: names of those to read: numbers, or "all"; none reads every numbered one, or else "all".
        checkpoint: one of CHECKPOINTS.

    Raises:
        InputError: a file is missing, damaged or holds what cannot be read safely; folds are of different models; or
            trainer, network, labels or weights are not ones that a run can have.
    """
    if checkpoint not in CHECKPOINTS:
        raise InputError(f"--checkpoint is {checkpoint!r}; it must be one of {', '.join(CHECKPOINTS)}.")
    files = _files(folder, folds, checkpoint)
    plans, dataset = read_plans(folder / PLANS), read_dataset(folder / DATASET, folder.name)
    contents = [_read_checkpoint(path) for path in files.values()]
    name, trainer, mirror_axes = _common(files, contents)
    configuration = configuration_of(plans, name)
    _check(folder, plans, dataset, configuration, trainer, mirror_axes)
    options = network_options(configuration.network, configuration.axes)
    read_folds = [
        Fold(fold, _params(content["weights"], dataset, options, path), content["steps"], path)
        for (fold, path), content in zip(files.items(), contents, strict=True)
    ]
    return Model(plans, dataset, name, trainer, mirror_axes, options, tuple(read_folds))


def network_options(network: Network, rank: int) -> dict[str, Any]:
    """The options of `models.build` for a plan's network."""
    described = dataclasses.asdict(network)
    return {"name": "resenc" if network.residual else "nnunet", "deep_supervision": True, "rank": rank} | described


def _files(folder: Path, folds: Sequence[str], checkpoint: str) -> dict[str, Path]:
    """The checkpoint of each fold."""
    file = f"checkpoint_{checkpoint}.pth"
    missing = [name for name in (PLANS, DATASET) if not (folder / name).is_file()]
    there = {match[1]: path for path in folder.glob("fold_*") if (match := _FOLD.fullmatch(path.name))}
    if missing or not there:
        what = ", ".join([*missing, *([] if there else ["fold_0"])])
        raise InputError(
            f"{folder} is not a trained model of nnU-Net v2: it has no {what}. Give the folder "
            "TRAINER__PLANS__CONFIGURATION of nnUNet_results."
        )
    chosen = list(dict.fromkeys(folds)) or sorted(there.keys() - {"all"}, key=int) or ["all"]
    if "all" in chosen and len(chosen) > 1:
        raise InputError("--folds has all, the network of every case, and others: give one or the other.")
    faults = [
        f"{folder}: has no fold_{name}; it has {', '.join(sorted(there))}." for name in chosen if name not in there
    ]
    for name in chosen:
        if name in there and not (there[name] / file).is_file():
            others = [kind for kind in CHECKPOINTS if (there[name] / f"checkpoint_{kind}.pth").is_file()]
            hint = f"take --checkpoint={others[0]}" if others else "train it to its end"
            faults.append(f"{there[name]}: has no {file}: {hint}, or leave the fold out with --folds.")
    if faults:
        raise InputError("\n".join(faults))
    return {name: there[name] / file for name in chosen}


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """The checked parts of a checkpoint: weights, steps, configuration, trainer and mirror_axes."""
    with TorchFile(path) as file:
        found = file.content
        if not isinstance(found, dict) or not isinstance(found.get("network_weights"), dict):
            raise InputError(f"{path} is not a checkpoint of nnU-Net v2: it has no network_weights.")
        arguments = found.get("init_args")
        configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
        trainer, epochs = found.get("trainer_name"), found.get("current_epoch")
        axes = found.get("inference_allowed_mirroring_axes") or ()
        right = {
            "init_args.configuration": isinstance(configuration, str),
            "trainer_name": isinstance(trainer, str),
            "current_epoch": isinstance(epochs, int) and epochs >= 0,
            "inference_allowed_mirroring_axes": isinstance(axes, list | tuple) and set(axes) <= {0, 1, 2},
        }
        if not all(right.values()):
            wrong = ", ".join(name for name, is_right in right.items() if not is_right)
            raise InputError(f"{path} is not a checkpoint of nnU-Net v2: {wrong} is missing or not what it should be.")
        weights = {}
        for key, tensor in found["network_weights"].items():
            if not isinstance(key, str) or not isinstance(tensor, Tensor):
                raise InputError(f"{path}: network_weights has {key!r}, which is not a named array.")
            name = _without_wrappers(key)
            if not (name.startswith(_TWICE[0]) or _TWICE[1] in name):
                weights[name] = file.array(tensor)
    return {
        "weights": weights,
        # An epoch of nnU-Net is 250 steps.
        "steps": 250 * epochs,
        "configuration": configuration,
        "trainer": trainer,
        "mirror_axes": tuple(sorted(axes)),
    }


def _without_wrappers(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.removeprefix(wrapper)
    return key


def _common(files: Mapping[str, Path], contents: list[dict]) -> tuple[str, str, tuple[int, ...]]:
    """Configuration, trainer and mirrored axes, in which all folds must agree."""
    paths = list(files.values())
    first, *others = contents
    keys = ("configuration", "trainer", "mirror_axes")
    for path, other in zip(paths[1:], others, strict=True):
        for key in keys:
            if other[key] != first[key]:
                raise InputError(
                    f"{path}: {key} is {other[key]!r}, and that of {paths[0]} is {first[key]!r}: folds of different "
                    "models cannot be averaged."
                )
    return tuple(first[key] for key in keys)


def _check(
    folder: Path,
    plans: Plans,
    dataset: Dataset,
    configuration: Configuration,
    trainer: str,
    mirror_axes: tuple[int, ...],
) -> None:
    """Raises InputError for a model that no run can be."""
    faults = []
    if not _LENGTH.fullmatch(trainer) and trainer not in TRAINERS:
        faults.append(
            f"{trainer} is not a trainer of nnU-Net 2.8.1 that keeps the plan's network: what it changed is not known."
        )
    faults += _faults_of_regions(dataset)
    if configuration.previous_stage:
        faults.append("it is the second stage of a cascade, which is given the masks of another model.")
    if len(plans.intensities) != len(dataset.channels):
        faults.append(
            f"{PLANS} is for {count(len(plans.intensities), 'channel')}, {DATASET} for {len(dataset.channels)}."
        )
    if mirror_axes and max(mirror_axes) >= configuration.axes:
        faults.append(f"it mirrors axis {max(mirror_axes)} of a patch that has {configuration.axes} axes.")
    if faults:
        raise InputError("\n".join(f"{folder} cannot be taken over: {fault}" for fault in faults))


def _faults_of_regions(dataset: Dataset) -> list[str]:
    if dataset.regions is None or len(dataset.regions) == 1:
        return []
    every = [number for region in dataset.regions for number in region]
    if len(set(every)) == len(every):
        return ["its labels are regions of which none overlap, and classes that do not overlap exclude each other."]
    wrong = [order for order, region in zip(dataset.regions_order, dataset.regions, strict=True) if order not in region]
    return [f"regions_class_order writes {wrong[0]} for a region that does not have it."] if wrong else []


def _params(weights: Mapping[str, np.ndarray], dataset: Dataset, options: Mapping[str, Any], path: Path) -> dict:
    bad = [key for key, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        arrays = count(len(bad), "array holds", "arrays hold")
        raise InputError(f"{path}: {arrays} NaN or infinity, such as {bad[0]}: take another checkpoint.")
    channels = len(dataset.channels)
    network = nnx.eval_shape(
        lambda: models.build(in_channels=channels, num_classes=dataset.outputs, rngs=nnx.Rngs(0), **options)
    )
    params, _ = fill(network, torch_names.nnunet(network), weights, f"{path} does not fit the network of {PLANS}:")
    has_background = dataset.regions is None
    return _one_class(params) if has_background and dataset.outputs == 2 else params


def _one_class(params: dict) -> dict:
    """With one channel of logits, the class's less the background's: its sigmoid is the softmax of the two."""
    heads = {
        level: {key: array[..., 1:] - array[..., :1] for key, array in head.items()}
        for level, head in params["heads"].items()
    }
    return params | {"heads": heads}
