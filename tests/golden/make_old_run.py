"""Writes old_run/: two tiny runs of this version of the program, and what it answers with them.

    PYTHONPATH=. python tests/golden/make_old_run.py

Later versions must go on reading these runs, so this is not run again with them: another version's runs get a folder
of their own. Only the command line and `unet_jax.load` are used.

`stopped` segments one class in pictures of Kaggle's layout, with batch normalisation and a moving average. SIGTERM
ended it one step into its last epoch; what the rest must be is taken from the same run, never stopped. `finished`
segments two classes in NIfTI volumes of two channels, with neighbouring slices, flips and post-processing.

<name>.tar.xz holds `run` and the `scans` it was trained on; the paths in its config start from the folder that holds
both. expected.json has the flags and all numbers; expected.npz the masks, and the probabilities of one patient.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import cv2
import jax
import nibabel
import numpy as np

import unet_jax

PROJECT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("old_run")
RECIPE = f"--config={PROJECT / 'configs' / 'default.py'}"
PATIENTS, DEPTH, SIZE = 9, 3, 32
COMMON = {
    "data.root": "scans",
    "data.cache": "cache",
    "data.image_size": SIZE,
    "data.val_fraction": 0.25,
    "data.test_fraction": 0.3,
    "model.width": 2,
    "model.depth": 2,
    "optim.learning_rate": 0.03,
    "optim.warmup_steps": 2,
    "train.patience": 0,
    "train.log_every_steps": 1,
    "train.checkpoint_every_steps": 2,
    "train.compilation_cache": None,
}
STOPPED = COMMON | {
    "data.source": "lgg",
    "data.tumour_share": 0.5,
    "model.norm": "batch",
    "augment.brightness.probability": 0.5,
    "optim.schedule": "cosine",
    "optim.ema_decay": 0.8,
    "train.batch_size": 2,
    "train.epochs": 4,
}
FINISHED = COMMON | {
    "data.source": "nifti",
    "data.neighbours": 1,
    "model.norm": "instance",
    "model.up": "transposed",
    "model.width": 3,
    "loss": {"ce": 1.0, "dice": 1.0},
    "train.batch_size": 3,
    "train.epochs": 14,
    "train.tensorboard": False,
    "eval.tta": True,
    "eval.surface_tolerance": 1.0,
    "eval.postprocess.minimum_voxels": 8,
}
# Files that are not compressed make a smaller archive.
PLAIN = (cv2.IMWRITE_TIFF_COMPRESSION, 1)
# What decides a pixel's class lies at least so far apart that another order of summation does not change a mask.
MARGIN = 1e-5


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    FOLDER.mkdir(exist_ok=True)
    expected, arrays = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, write, make in (
            ("stopped", write_pictures, make_stopped),
            ("finished", write_volumes, make_finished),
        ):
            folder = Path(scratch, name)
            images = write(folder / "scans")
            expected[name] = make(folder)
            pack(folder, FOLDER / f"{name}.tar.xz")
            answers, of_run = ask(folder, images)
            expected[name] |= answers
            arrays |= {f"{name}/{key}": array for key, array in of_run.items()}
    text = json.dumps(expected, separators=(",", ":")).replace("},", "},\n").replace("],", "],\n")
    (FOLDER / "expected.json").write_text(text + "\n")
    np.savez_compressed(FOLDER / "expected.npz", **arrays)


def make_stopped(folder: Path) -> dict:
    """The run, and what the steps after its stop must log, by the same run without a stop."""
    flags = as_flags(STOPPED)
    run(folder, RECIPE, *flags, "--workdir=whole")
    whole = history(folder / "whole")
    epochs = STOPPED["train.epochs"]
    stopped = subprocess.Popen(command(RECIPE, *flags, "--workdir=run"), cwd=folder, env=environment(folder))
    # The epoch's curves are drawn next, which takes far longer than this is asleep: one more step, and it stops.
    while not any(record.get("epoch") == epochs - 1 for record in history(folder / "run")):
        time.sleep(0.002)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 3
    last = history(folder / "run")[-1]["step"]
    assert last == whole[-1]["step"] // epochs * (epochs - 1) + 1

    shutil.copytree(folder / "run", folder / "resumed")
    run(folder, RECIPE, *flags, "--workdir=resumed")
    expected = {"flags": flags, "stopped_after": last, "history": [numbers(record) for record in whole]}
    assert [numbers(record) for record in history(folder / "resumed")] == expected["history"]
    expected["resumed"] = scores(folder / "whole", "test")
    assert scores(folder / "resumed", "test") == expected["resumed"]
    return expected


def make_finished(folder: Path) -> dict:
    flags = as_flags(FINISHED)
    run(folder, RECIPE, *flags, "--workdir=run")
    return {"flags": flags}


def ask(folder: Path, images: np.ndarray) -> tuple[dict, dict[str, np.ndarray]]:
    """What evaluate, predict, `unet_jax.load` and the exported file answer."""
    answers = {}
    for side in ("val", "test"):
        run(folder, "--mode=evaluate", f"--split={side}", "--workdir=run")
        answers[side] = scores(folder / "run", side)
    run(folder, "--mode=predict", "--workdir=run", "--input=scans", "--output=masks")
    run(folder, "--mode=export", "--workdir=run", "--output=network.zip")
    with zipfile.ZipFile(folder / "network.zip") as file:
        facts = json.loads(file.read("metadata.json"))
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    answers["export"] = {key: facts[key] for key in ("checkpoint_step", "input", "output", "threshold", "tta")}
    # Another size and another number of slices than the run's.
    pattern = np.random.default_rng(1).integers(0, 8, (2, 24, 40, facts["input"]["shape"][-1]), np.uint8) * 32

    segment = unet_jax.load(folder / "run")
    probability = segment.probabilities(images)
    check_margin(probability)
    answers["masks"], masks = masks_in(folder / "masks")
    return answers, {
        "image": images[-1],
        "mask": segment(images[-1]),
        "probability": probability[-1, 1],
        "masks": masks,
        "export/pattern": pattern,
        "export/probability": np.asarray(program.call(as_input(pattern, facts["input"]["dtype"]))),
    }


def as_input(pattern: np.ndarray, dtype: str) -> np.ndarray:
    """What the exported program takes: uint8 as it is, or float32 from 0 to 1."""
    return pattern if dtype == "uint8" else (pattern / 255).astype(dtype)


def check_margin(probability: np.ndarray) -> None:
    """Of one class, no probability is near the threshold; of several, no two that compete for a pixel."""
    if probability.ndim == 4:
        gaps = np.abs(probability - 0.5)
    else:
        highest = np.sort(probability, axis=-1)
        gaps = highest[..., -1] - highest[..., -2]
    assert gaps.min() > MARGIN, gaps.min()


def write_pictures(root: Path) -> np.ndarray:
    """Scans of three channels, noise and a tumour in the second; returns their images [n, d, h, w, 3]."""
    rng = np.random.default_rng(0)
    images = []
    for patient in range(PATIENTS):
        name = f"TCGA_XX_{patient:04d}_20000101"
        (root / name).mkdir(parents=True)
        mask = ball(rng, 7)
        image = np.full((*mask.shape, 3), 60, np.uint8)
        image[..., 1] = rng.integers(0, 6, mask.shape) * 20 + 60 * mask
        for number in range(DEPTH):
            path = root / name / f"{name}_{number + 1}"
            cv2.imwrite(f"{path}.tif", image[number, :, :, ::-1], PLAIN)
            cv2.imwrite(f"{path}_mask.tif", mask[number] * np.uint8(255), PLAIN)
        images.append(image)
    return np.stack(images)


def write_volumes(root: Path) -> np.ndarray:
    """Volumes of two channels: edema is bright in both, core in the second; returns their images [n, d, h, w, 2]."""
    rng = np.random.default_rng(2)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    images = []
    for patient in range(PATIENTS):
        edema, core = ball(rng, 7), ball(rng, 5)
        image = np.full((*edema.shape, 2), 300, np.int16)
        image[..., 0] += 200 * (edema | core)
        image[..., 1] = rng.integers(0, 6, edema.shape) * 80 + 300 * (edema | core) + 400 * core
        for channel in range(2):
            write_nifti(root / f"imagesTr/p{patient}_{channel:04d}.nii", image[..., channel])
        write_nifti(root / f"labelsTr/p{patient}.nii", np.where(core, 2, edema.astype(np.uint8)))
        images.append(image.astype(np.float32))
    description = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "edema": 1, "core": 2},
        "numTraining": PATIENTS,
        "file_ending": ".nii",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return np.stack(images)


def write_nifti(path: Path, array: np.ndarray) -> None:
    """[slices, rows, columns] of 4, 1 and 1 mm."""
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(np.int16), np.diag([-1.0, -1.0, 4.0, 1.0])), path)


def ball(rng: np.random.Generator, radius: float) -> np.ndarray:
    """A mask [d, h, w] of something round, widest in the second slice."""
    middle = rng.uniform(10, SIZE - 10, 2)
    rows, columns = np.ogrid[:SIZE, :SIZE]
    distance = np.hypot(rows - middle[0], columns - middle[1])
    return np.stack([distance < radius - abs(number - 1) for number in range(DEPTH)])


def as_flags(settings: dict) -> list[str]:
    return [f"--config.{key}={value}" for key, value in settings.items()]


def command(*flags: str) -> list[str]:
    return [sys.executable, str(PROJECT / "main.py"), *flags]


def environment(folder: Path) -> dict[str, str]:
    # On how many devices a batch is shared changes the last bits of sums.
    own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(PROJECT)}
    return os.environ | own | {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled")}


def run(folder: Path, *flags: str) -> None:
    subprocess.run(command(*flags), cwd=folder, env=environment(folder), check=True)


def history(workdir: Path) -> list[dict]:
    path = workdir / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def numbers(record: dict) -> dict:
    """A line of the history without what differs from start to start."""
    return {key: value for key, value in record.items() if key not in ("seconds", "images_per_second")}


def scores(workdir: Path, side: str) -> dict:
    """The numbers of metrics.json, flattened, without the time taken; and the lines of cases.csv."""
    folder = workdir / "evaluation" / side
    flat = flatten(json.loads((folder / "metrics.json").read_text()))
    metrics = {key: x for key, x in flat.items() if isinstance(x, int | float) and "seconds" not in key}
    with open(folder / "cases.csv", newline="") as file:
        cases = [{key: as_number(text) for key, text in row.items()} for row in csv.DictReader(file)]
    return {"metrics": metrics, "cases": cases}


def as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def flatten(tree: dict | list, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict | list) else {f"{prefix}{key}": value}
    return flat


def masks_in(folder: Path) -> tuple[list[str], np.ndarray]:
    """The names of predicted masks, and the masks."""
    paths = sorted(path for path in folder.rglob("*") if path.name.endswith((".png", ".tif", ".nii")))
    return [path.relative_to(folder).as_posix() for path in paths], np.stack([read_mask(path) for path in paths])


def read_mask(path: Path) -> np.ndarray:
    if path.name.endswith(".nii"):
        return np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def pack(folder: Path, archive: Path) -> None:
    """The run and its scans, without what a resumed run draws anew and without the owner's name."""
    with tarfile.open(archive, "w:xz", preset=9) as file:
        for name in ("run", "scans"):
            file.add(folder / name, name, filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name == "run/curves.png" or member.name.startswith("run/evaluation"):
        return None
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
