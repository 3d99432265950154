"""Writes nnunet/residual_names.json: the names and shapes of a residual network's arrays in nnU-Net 2.8.1.

    python tests/golden/make_nnunet_names.py FOLDER

FOLDER/functions/net_resenc.npz has the arrays.
"""

import json
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    arrays = np.load(Path(sys.argv[1]) / "functions" / "net_resenc.npz")
    shapes = {key.removeprefix("w:"): arrays[key].shape for key in arrays.files if key.startswith("w:")}
    path = Path(__file__).parent / "nnunet" / "residual_names.json"
    path.write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
