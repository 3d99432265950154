"""Packs how nnU-Net 2.8.1 preprocessed and exported into nnunet/preprocessing.json and nnunet/*.npz.

    python tests/golden/make_nnunet_preprocessing.py FOLDER

FOLDER/functions has resampling, locations, importance maps, windows, and a prediction by windows. FOLDER/real_… has
what became of a case of small data sets, whose files are in raw.tar.xz. To stay small, floating-point results are a
part of their voxels (`PART`); the logits of the cascade are in steps of 1/16, so that some voxels next to a tie may
fall otherwise.
"""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np

HERE = Path(__file__).parent / "nnunet"
PART = (slice(None), slice(None, None, 2), slice(1, None, 3), slice(None, None, 3))


def load(path: Path):
    return json.loads(path.read_text())


def functions(root: Path) -> None:
    calls = load(root / "resampling.json")
    arrays = dict(np.load(root / "resampling.npz"))
    for call in calls:
        if not call["is_seg"]:
            arrays[f"{call['name']}_out"] = arrays[f"{call['name']}_out"][PART]
    np.savez_compressed(HERE / "resampling.npz", **arrays)
    np.savez_compressed(HERE / "gaussian.npz", **np.load(root / "gaussian.npz"))
    np.savez_compressed(HERE / "sliding_window.npz", **np.load(root / "sliding_window_prediction.npz"))
    masks = np.load(root / "masks.npz")
    found = {key: masks[key] for key in masks.files if key.startswith("cl_")}
    np.savez_compressed(HERE / "locations.npz", mask=masks["seg"][0], **found)
    answers = {
        "part": [[axis.start, axis.stop, axis.step] for axis in PART],
        "resampling": calls,
        "separate_z": load(root / "separate_z.json"),
        "padding": load(root / "padding.json"),
        "windows": load(root / "sliding_window_steps.json"),
        "forced_foreground": load(root / "tables.json")["forced_foreground_samples_per_batch_size"],
    }
    for name, case in (("real_iso_mri", "iso_1"), ("real_aniso_2ch_mask", "an_1")):
        answers[name] = load(root.parent / name / f"properties_{case}_3d_fullres.json")
    (HERE / "preprocessing.json").write_text(json.dumps(answers, separators=(",", ":")))


def cases(root: Path) -> None:
    for name, case in (("real_iso_mri", "iso_1"), ("real_aniso_2ch_mask", "an_1")):
        full, flat = (dict(np.load(root / name / f"preprocessed_{case}_{each}.npz")) for each in ("3d_fullres", "2d"))
        # One golden array stands for both.
        assert all(np.array_equal(full[key], flat[key]) for key in full)
        kept = {key: full[key] for key in full if key in ("seg", "seg_without_label") or key.startswith("cl_")}
        kept["data"] = full["data"][PART]
        if name == "real_aniso_2ch_mask":
            kept |= {key: full[key] for key in ("logits", "exported_seg")}
            kept["exported_prob"] = full["exported_prob"][PART]
        np.savez_compressed(HERE / f"{name}.npz", **kept)

    found = dict(np.load(root / "real_cascade" / "cascade_ca_1.npz"))
    files = {
        key: root / "real_cascade" / "raw" / path
        for key, path in (("image", "imagesTr/ca_1_0000.nii.gz"), ("mask", "labelsTr/ca_1.nii.gz"))
    }
    for key, path in files.items():
        found[key] = np.asarray(nibabel.load(path).dataobj).T.astype(np.int16)
    found["lowres_data"] = found["lowres_data"][PART]
    found["lowres_logits"] = np.rint(found["lowres_logits"] * 16).astype(np.int8)
    np.savez_compressed(HERE / "real_cascade.npz", **found)


if __name__ == "__main__":
    functions(Path(sys.argv[1]) / "functions")
    cases(Path(sys.argv[1]))
