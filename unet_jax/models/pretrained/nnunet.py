"""Makes a run of a trained model of nnU-Net v2, to predict, evaluate and export with; needs no PyTorch.

    python -m unet_jax.models.pretrained.nnunet nnUNetTrainer__nnUNetPlans__3d_fullres runs/hippocampus

The new folder holds a run for each fold, <configuration>/fold<k>, the plan, and best.json, which says that the folds
predict together. Nothing of the model's files is executed. Exit codes: 0 done, 2 an argument or a file cannot be used,
5 the disk cannot take the result.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.data import labels
from unet_jax.data.labels import LabelMap
from unet_jax.errors import InputError
from unet_jax.files import replace_folder, write_sealed_json
from unet_jax.losses.nnunet import loss_weights
from unet_jax.models.pretrained import nnunet_folder
from unet_jax.models.pretrained.nnunet_folder import Fold, Model
from unet_jax.plan import plan_file
from unet_jax.run import checkpoint
from unet_jax.run import folder as run_folder
from unet_jax.run.config import as_json, default_config
from unet_jax.runtime.command_line import run_and_report

BEST = "best.json"
EPOCH_STEPS = 250
# By nnU-Net's reader of a plan, config.data.axes; its other readers leave axes as the files have them.
AXES = {"NaturalImage2DIO": "patient", "NibabelIOWithReorient": "ras"}


def write(model: Model, out: Path) -> None:
    """Writes the folder of a model, whole or not at all.

    Raises:
        InputError: there is something in `out`, or a class has a name that no run can have.
        StorageError: the disk is full, read-only or failing.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: name another folder, or remove it.")
    classes = classes_of(model)
    with replace_folder(out) as folder:
        numbers = [number for number, _ in enumerate(model.folds)]
        if model.folds[0].name != "all":
            numbers = [int(fold.name) for fold in model.folds]
        for number, fold in zip(numbers, model.folds, strict=True):
            _write_run(folder / model.name / f"fold{number}", model, fold, number, classes)
        plan_file.write_sealed(folder / plan_file.NAME, model.plans)
        chosen = {"configurations": [model.name], "folds": numbers, "postprocessing": [], "results": {}}
        write_sealed_json(folder / BEST, chosen)


def classes_of(model: Model) -> LabelMap:
    """The classes of the runs, in the order of their numbers; empty where there is only one.

    Raises:
        InputError: one has a name that no run can have.
    """
    numbers = {name: value for name, value in model.dataset.labels.items() if name != "ignore" and value != 0}
    if len(numbers) == 1:
        return {}
    if model.dataset.regions is not None:
        classes = {name: value if isinstance(value, tuple) else (value,) for name, value in numbers.items()}
        labels.check(classes, nnunet_folder.DATASET)
        return labels.with_order(classes, model.dataset.regions_order, f"{nnunet_folder.DATASET}, regions_class_order")
    classes = {name: (int(numbers[name]),) for name in sorted(numbers, key=numbers.get)}
    labels.check(classes, nnunet_folder.DATASET)
    return classes


def config_of(model: Model, number: int) -> ConfigDict:
    """The config of the run of a fold: nnU-Net's choices where it has any, and the program's own for the rest."""
    config, planned = default_config(), model.configuration
    mirrored = {"rows": planned.axes - 2 in model.mirror_axes, "columns": planned.axes - 1 in model.mirror_axes}
    config.data.update(
        source="pairs" if model.plans.reader == "NaturalImage2DIO" else "nifti",
        root=f"data/nnUNet_raw/{model.plans.dataset}",
        folds=5,
        fold=number,
        axes=AXES.get(model.plans.reader, "file"),
        patch=planned.patch_size,
        spacing=planned.spacing if planned.images.enabled else None,
    )
    config.plan.configuration = model.name
    config.model = ConfigDict({**model.options, "dtype": "float32"})
    regions = 0 if model.dataset.regions is None else len(model.dataset.regions)
    config.loss = ConfigDict(loss_weights(batch_dice=planned.batch_dice, regions=regions))
    config.train.update(batch_size=planned.batch_size, epochs=1000, patience=0, steps_per_epoch=EPOCH_STEPS)
    config.augment.update(
        transpose=0.0, rot90=0.0, flip_rows=0.5 * mirrored["rows"], flip_columns=0.5 * mirrored["columns"]
    )
    config.augment.affine.probability = 0.0
    config.optim.update(
        name="sgd",
        learning_rate=0.01,
        warmup_steps=0,
        schedule="poly",
        weight_decay=3e-5,
        coupled_decay=True,
        clip_norm=12.0,
    )
    config.eval.update(checkpoint="newest", tta=bool(model.mirror_axes), mirror_axes=model.mirror_axes)
    return config


def _write_run(workdir: Path, model: Model, fold: Fold, number: int, classes: LabelMap) -> None:
    checkpoints = workdir / run_folder.CHECKPOINTS
    checkpoint.prepare(checkpoints)
    checkpoint.save(checkpoints, fold.steps, {"model": {"params": fold.params, "batch_stats": {}}}, None)
    plan_file.write_sealed(workdir / plan_file.NAME, model.plans)
    channels = model.dataset.channels
    described = {"channels": len(channels), "channel_names": list(channels), "shown": 0, "files": {}}
    write_sealed_json(workdir / run_folder.DATA, described)
    if classes:
        write_sealed_json(workdir / run_folder.CLASSES, as_json(classes))
    # Nobody knows the files that it was trained on; what stands for them is where its weights are from.
    origin = f"nnU-Net, {model.trainer}: {_sha256(fold.path)}"
    config = as_json(config_of(model, number).to_dict())
    write_sealed_json(workdir / run_folder.CONFIG, config | {run_folder.FINGERPRINT: origin})


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take_over(args: argparse.Namespace) -> str:
    model = nnunet_folder.read(args.model, folds=args.folds, checkpoint=args.checkpoint)
    write(model, args.out)
    return f"{args.out}: {model.name} of {model.trainer}, folds {', '.join(fold.name for fold in model.folds)}."


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unet_jax.models.pretrained.nnunet", allow_abbrev=False)
    parser.add_argument("model", type=Path, help="nnU-Net's TRAINER__PLANS__CONFIGURATION, with fold_0, fold_1 …")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--folds", nargs="+", default=[], help="numbers, or all; every numbered one by default")
    parser.add_argument("--checkpoint", default="final", help=", ".join(nnunet_folder.CHECKPOINTS))
    args = parser.parse_args(arguments)
    return run_and_report(lambda: _take_over(args))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
