"""Packs what nnU-Net 2.8.1's augmentation does at fixed parameters into nnunet/transforms.npz.

    python tests/golden/make_nnunet_transforms.py FOLDER

FOLDER has transforms.npz. To stay small, transformed volumes of the whole size are a part of their voxels (`PART`, for
images [c, d, h, w]); the spatial transforms, masks and slices are whole.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "nnunet"
PART = (slice(None), slice(None, None, 2), slice(1, None, 3), slice(None, None, 3))
PARTS = ("blur3_", "contrast_", "gamma_", "lowres3_")


def main(folder: Path) -> None:
    arrays = np.load(folder / "transforms.npz")
    # The discs are those of 2-D cascades, which no plan has.
    kept = {name: arrays[name] for name in arrays.files if not name.startswith("disk_")}
    np.savez_compressed(
        HERE / "transforms.npz",
        part=np.array([[axis.start or 0, axis.step or 1] for axis in PART]),
        **{name: array[PART] if name.startswith(PARTS) else array for name, array in kept.items()},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
