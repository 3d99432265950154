"""Packs how nnU-Net 2.8.1 trained into nnunet/training.npz.

    python tests/golden/make_nnunet_training.py FOLDER

FOLDER/functions has losses.npz (values and gradients), sgd.npz (gradients, and the parameters after each), tables.json
(learning rates, weights of deep supervision) and train_steps.npz (five steps of a small network: its input, targets,
weights before and after, losses and norms of the gradients). Gradients and weights after are every `PART`th number.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "nnunet"
PART = 5


def main(root: Path) -> None:
    tables = json.loads((root / "tables.json").read_text())
    rates = tables["poly_lr_1000_first10_and_every100"]
    arrays = {"rate/epoch": np.array([int(epoch) for epoch in rates]), "rate/value": np.array([*rates.values()])}
    arrays |= {f"levels/{count}": np.array(found) for count, found in tables["deep_supervision_weights"].items()}
    for key, array in np.load(root / "losses.npz").items():
        if key != "topk10_ls01" and key != "topk10_ls01_grad":
            arrays[f"losses/{key}"] = array.ravel()[::PART] if key.endswith("_grad") else array
    arrays |= {f"sgd/{key}": array for key, array in np.load(root / "sgd.npz").items()}
    for key, array in np.load(root / "train_steps.npz").items():
        arrays[f"steps/{key}"] = array.ravel()[::PART] if key.startswith("w5:") else array
    np.savez_compressed(HERE / "training.npz", part=PART, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "functions")
