"""The plain script in PyTorch of benchmarks.prediction: reads images, runs the network, writes masks.

python -m benchmarks.torch_prediction CALLS.json JOB.json

JOB.json says what to do. CALLS.json gets the clock at the beginning of each call of the network and its seconds.
"""

import itertools
import json
import math
import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from benchmarks import torch_nnunet, torch_unet

CLASSES = 3


class Timed:
    """A network that is waited for at each call.

    Attributes:
        calls: the clock at the beginning of each, and its seconds.
    """

    def __init__(self, network: torch.nn.Module, device: str, dtype: str):
        self._network, self._device, self._dtype = network.eval(), device, dtype
        self.calls: list[tuple[float, float]] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, float32."""
        torch_unet.wait(self._device)
        began = time.time()
        with torch.autocast(self._device, torch.bfloat16, enabled=self._dtype == "bfloat16"):
            found = self._network(x)
        found = (found[0] if isinstance(found, list) else found).float()
        torch_unet.wait(self._device)
        self.calls.append((began, time.time() - began))
        return found


def nested(path: str) -> dict:
    """Parameters of an .npz, as dictionaries in dictionaries."""
    tree: dict = {}
    with np.load(path) as file:
        for name in file.files:
            *parents, last = (int(part) if part.isdigit() else part for part in name.split("."))
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = file[name]
    return tree


def pictures(job: dict, device: str) -> list[tuple[float, float]]:
    """A mask of 0 and 255 for each picture of a folder, at the picture's size."""
    size = job["size"]
    network = Timed(torch_unet.network(nested(job["weights"]), job["width"], device), device, job["dtype"])
    flag = cv2.IMREAD_COLOR if job["channels"] == 3 else cv2.IMREAD_GRAYSCALE
    paths = sorted(Path(job["input"]).glob("*.*"))
    for start in range(0, len(paths), job["batch"]):
        batch, shapes = [], []
        for path in paths[start : start + job["batch"]]:
            image = cv2.imread(str(path), flag)
            image = image[..., ::-1].copy() if job["channels"] == 3 else image[..., None]
            shapes.append(image.shape[:2])
            x = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
            batch.append(_square(x, size))
        x = torch.cat(batch).contiguous(memory_format=torch.channels_last)
        logits = network(x)
        for path, shape, one in zip(paths[start:], shapes, logits, strict=False):
            mask = (_unsquare(one[None], shape)[0, 0] >= 0).to(torch.uint8).mul(255).cpu().numpy()
            suffix = path.suffix if path.suffix == ".tif" else ".png"
            cv2.imwrite(str(Path(job["output"]) / f"{path.stem}_mask{suffix}"), mask)
    return network.calls


def _square(x: torch.Tensor, size: int) -> torch.Tensor:
    """Padded evenly to a square and resized."""
    rows, columns = x.shape[2:]
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    x = functional.pad(x, (left, side - columns - left, top, side - rows - top))
    return x if side == size else functional.interpolate(x, (size, size), mode="bilinear", antialias=True)


def _unsquare(logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    side = max(shape)
    if side != logits.shape[-1]:
        logits = functional.interpolate(logits, (side, side), mode="bilinear", antialias=True)
    top, left = ((side - n) // 2 for n in shape)
    return logits[..., top : top + shape[0], left : left + shape[1]]


def volume(job: dict, device: str) -> list[tuple[float, float]]:
    """The likeliest class of each voxel of a NIfTI file, from windows that overlap by half, weighted by a Gaussian."""
    import nibabel

    source = nibabel.load(job["input"])
    # Slices first, as the run has them.
    image = np.asarray(source.dataobj, np.float32).T
    image = torch.from_numpy((image - image.mean()) / max(image.std(), 1e-8)).to(device)
    net = torch_nnunet.network(nested(job["weights"]), 1, CLASSES, job["features"]).to(device)
    network, patch = Timed(net, device, job["dtype"]), job["patch"]
    weight = torch.ones((), device=device)
    for axis, n in enumerate(patch):
        profile = torch.exp(-0.5 * ((torch.arange(n, device=device) - n // 2) / (n / 8)) ** 2).clamp_min(1e-4)
        weight = weight * profile.reshape([-1 if axis == place else 1 for place in range(3)])
    sums = torch.zeros((CLASSES, *image.shape), device=device)
    for corner in itertools.product(*(_starts(n, tile) for n, tile in zip(image.shape, patch, strict=True))):
        place = tuple(slice(start, start + tile) for start, tile in zip(corner, patch, strict=True))
        sums[(slice(None), *place)] += network(image[place][None, None])[0] * weight
    mask = sums.argmax(0).to(torch.uint8).cpu().numpy().T
    name = Path(job["input"]).name.replace(".nii", "_mask.nii")
    nibabel.save(nibabel.Nifti1Image(mask, source.affine), Path(job["output"]) / name)
    return network.calls


def _starts(size: int, tile: int) -> list[int]:
    """Where windows start, evenly, at most half a window apart."""
    count = math.ceil((size - tile) / (tile / 2)) + 1
    return [round((size - tile) / max(count - 1, 1) * at) for at in range(count)]


def main() -> None:
    """Does the job, and keeps the calls."""
    job = json.loads(Path(sys.argv[2]).read_text())
    Path(job["output"]).mkdir(exist_ok=True)
    torch_unet.configure(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode():
        calls = {"pictures": pictures, "volume": volume}[job["kind"]](job, device)
    Path(sys.argv[1]).write_text(json.dumps(calls))


if __name__ == "__main__":
    main()
