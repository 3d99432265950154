"""Runs of several classes on pairs of small pictures, whether these exclude each other or overlap."""

from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict

from unet_jax.data.load import load
from unet_jax.inference.network import load_network
from unet_jax.runtime.mesh import data_mesh

SIZE = 16


def settings(root: Path, labels: str) -> dict:
    """Those of a run of seconds on the pairs in a folder."""
    return {
        "data.source": "pairs",
        "data.root": str(root),
        "data.cache": str(root.parent / "cache"),
        "data.labels": labels,
        "data.patient_pattern": "(?P<patient>p[0-9]+)_(?P<slice>[0-9]+)",
        "data.image_size": SIZE,
        "data.val_fraction": 0.1,
        "data.test_fraction": 0.2,
        "model.width": 4,
        "model.depth": 2,
        "train.batch_size": 4,
        "train.patience": 0,
        "train.checkpoint_every_steps": 0,
        "optim.warmup_steps": 1,
        "loss": {"ce": 1.0, "dice": 1.0},
    }


def write_pair(root: Path, patient: int, number: int, image: np.ndarray, mask: np.ndarray) -> None:
    """A slice of a patient, [h, w] each."""
    for folder, pixels in (("images", image), ("masks", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / folder / f"p{patient}_{number}.png"), pixels.astype(np.uint8))


def answers(config: ConfigDict, workdir: Path) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Each case's name, image, mask of numbers, and probabilities [d, h, w, k], slice by slice from the network."""
    network, _ = load_network(workdir, config, data_mesh())
    return [
        (case.name, np.asarray(case.image), np.asarray(case.mask), np.asarray(network(np.asarray(case.image))))
        for case in load(config).cases
    ]
