"""Packs how nnU-Net 2.8.1 scored, post-processed and split into nnunet/choice.json and nnunet/choice.npz.

    python tests/golden/make_nnunet_choice.py FOLDER

FOLDER/evaluation has masks (ref, pred and pred/postprocessed) with nnU-Net's summary.json and postprocessing.json;
FOLDER/functions/tables.json has its five folds of so many cases.
"""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np

HERE = Path(__file__).parent / "nnunet"


def load(path: Path):
    return json.loads(path.read_text())


def choice(root: Path) -> None:
    scored = root / "evaluation"
    folders = {"ref": scored / "ref", "pred": scored / "pred", "postprocessed": scored / "pred" / "postprocessed"}
    masks = {
        f"{kind}_{path.name.removesuffix('.nii.gz')}": np.asarray(nibabel.load(path).dataobj).T.astype(np.uint8)
        for kind, folder in folders.items()
        for path in sorted(folder.glob("*.nii.gz"))
    }
    np.savez_compressed(HERE / "choice.npz", **masks)
    answers = {
        "summary": load(folders["pred"] / "summary.json"),
        "postprocessed_summary": load(folders["postprocessed"] / "summary.json"),
        "postprocessing": load(folders["pred"] / "postprocessing.json"),
        "splits": load(root / "functions" / "tables.json")["splits"],
    }
    (HERE / "choice.json").write_text(json.dumps(answers, separators=(",", ":")))


if __name__ == "__main__":
    choice(Path(sys.argv[1]))
