"""Packs what nnU-Net 2.8.1 answered into nnunet/planning.json.xz and nnunet/raw.tar.xz.

    python tests/golden/make_nnunet_planning.py FOLDER

Each folder of FOLDER is a data set: dataset_fingerprint.json, dataset.json (or raw/ with it and the images),
plans_<planner>.json, and vram_<planner>.json with every estimate of memory that the planner asked for. Fingerprints are
of faked cases, but in the folders `real_…` of raw/, with 1e5 samples in the place of 1e8.
"""

import gzip
import io
import json
import lzma
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent / "nnunet"
RAW = ("real_aniso_2ch_mask", "real_iso_mri")


def load(path: Path):
    return json.loads(path.read_text())


def data_set(folder: Path) -> dict:
    description = folder / "dataset.json"
    dataset = load(description if description.exists() else folder / "raw" / "dataset.json")
    dataset.pop("dataset", None)
    return {
        "fingerprint": load(folder / "dataset_fingerprint.json"),
        "dataset": dataset,
        "plans": {path.stem.partition("_")[2]: load(path) for path in sorted(folder.glob("plans_*.json"))},
        "estimates": {path.stem.partition("_")[2]: load(path) for path in sorted(folder.glob("vram_*.json"))},
    }


def main(root: Path) -> None:
    folders = sorted(path.parent for path in root.glob("*/dataset_fingerprint.json"))
    answers = {
        "data_sets": {folder.name: data_set(folder) for folder in folders},
        "topology": load(root / "functions" / "pool_and_conv_props.json"),
        "enlarged_patch": load(root / "functions" / "tables.json")["initial_patch_size"],
        "edited_plans": load(root / "model_small" / "model" / "plans.json"),
    }
    packed = lzma.compress(json.dumps(answers, separators=(",", ":")).encode(), preset=9)
    (HERE / "planning.json.xz").write_bytes(packed)
    with tarfile.open(HERE / "raw.tar.xz", "w:xz", preset=9) as archive:
        for name in RAW:
            for path in sorted(path for path in (root / name / "raw").rglob("*") if path.is_file()):
                data = path.read_bytes()
                # Compressed twice, it would be larger.
                data = gzip.decompress(data) if path.suffix == ".gz" else data
                entry = tarfile.TarInfo(str(Path(name) / path.relative_to(root / name / "raw")))
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
