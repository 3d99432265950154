"""The input pipeline against PyTorch's: batches ready for the device, from the same TIFFs, second epoch on.

    pip install torch==2.13.0 albumentations opencv-python-headless
    python -m benchmarks.input_pipeline [--data=DIR]

PyTorch's side is what its users write: a Dataset that reads image and mask with cv2 and flips and turns them with
albumentations, and a DataLoader with two persistent workers. Here cases are decoded once and gathered from memory
maps; flips and turns happen within the training step, on the device, and are not part of this. So a second figure has
PyTorch's side without them.
"""

import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import albumentations
import cv2
import numpy as np
import torch
from absl import app, flags
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks import results
from unet_jax.benchmark import side_by_side
from unet_jax.benchmark.rates import images_per_second
from unet_jax.data import cache, phantom, pipeline
from unet_jax.data.formats import lgg
from unet_jax.data.slices import Slices
from unet_jax.runtime import environment

DATA = flags.DEFINE_string("data", None, "A folder in the Kaggle layout; by default a phantom of 256² is made.")
BATCH = flags.DEFINE_integer("batch", 32, "Slices a batch.")
WORKERS = flags.DEFINE_integer("workers", 2, "Of the DataLoader.")
SECONDS = flags.DEFINE_float("seconds", 60, "Of all rounds together.")
SIZE = flags.DEFINE_integer("size", 256, "Pixels a side of the phantom.")
PATIENTS = flags.DEFINE_integer("patients", 12, "Of the phantom.")
KEEP = flags.DEFINE_bool("keep", True, "Whether the figures go to benchmarks/results.")


# Images of a DataLoader's sample, at least: starting an epoch, with nothing read ahead, should not count for much.
SAMPLE_IMAGES = 4000


class FilePairs(Dataset):
    """Pairs of files, decoded at each access."""

    def __init__(self, pairs: list[tuple[Path, Path]], augment: bool):
        self.pairs = pairs
        flips = [albumentations.HorizontalFlip(), albumentations.VerticalFlip(), albumentations.RandomRotate90()]
        self.transform = albumentations.Compose(flips) if augment else None

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = (str(path) for path in self.pairs[place])
        image = cv2.imread(image, cv2.IMREAD_COLOR_RGB)
        mask = (cv2.imread(mask, cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)
        if self.transform:
            both = self.transform(image=image, mask=mask)
            image, mask = both["image"], both["mask"]
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(mask))


def _loader(pairs: FilePairs, images: int, batch: int, workers: int) -> DataLoader:
    """Shuffled batches; an epoch is so many images, in as many passes as that takes."""
    return DataLoader(
        pairs,
        batch_size=batch,
        sampler=RandomSampler(pairs, num_samples=images),
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def _endless(loader: DataLoader) -> Iterator:
    while True:
        yield from loader


def _ours(cases: list, batch: int) -> Iterator[dict[str, np.ndarray]]:
    slices = Slices(cases)
    return iter(pipeline.training_batches(slices, batch_size=batch, seed=0, epochs=10**6))


def _take(stream: Iterator, batches: int, times: int) -> None:
    for _ in range(batches * times):
        next(stream)


def measure(root: Path, batch: int, workers: int, seconds: float) -> dict:
    """Images a second of each contender from the second epoch on, and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        cases = cache.load(lgg, root, Path(folder))[0]
        decoding = time.perf_counter() - began
        listing = lgg.find(root)
        pairs = [
            (root / image, root / mask) for one in listing for image, mask in zip(one.images, one.masks, strict=True)
        ]
        passes = -(-SAMPLE_IMAGES // len(pairs))
        batches = passes * len(pairs) // batch
        loaders = {
            name: _loader(FilePairs(pairs, augment), passes * len(pairs), batch, workers)
            for name, augment in (("DataLoader", True), ("DataLoader, no augmentation", False))
        }
        streams = {"unet_jax": _ours(cases, batch)} | {name: _endless(loader) for name, loader in loaders.items()}
        # One call of each before the samples: the first epoch does not count.
        calls = {name: functools.partial(_take, stream, batches) for name, stream in streams.items()}
        samples = side_by_side.alternate(calls, seconds)
    return {
        "slices": len(pairs),
        "image": list(cases[0].image.shape[1:]),
        "batch": batch,
        "workers": workers,
        "first_decoding_seconds": decoding,
        "rounds": len(samples["unet_jax"]),
        "images_per_second": {name: images_per_second(one, batches * batch) for name, one in samples.items()},
        "against": {
            name: side_by_side.compare(samples["unet_jax"], one) for name, one in samples.items() if name != "unet_jax"
        },
    }


def main(_) -> None:
    """Measures, prints and keeps the figures."""
    cv2.setNumThreads(0)  # as PyTorch's workers should have it
    with tempfile.TemporaryDirectory() as folder:
        root = Path(DATA.value) if DATA.value else Path(folder) / "kaggle_3m"
        if not DATA.value:
            phantom.write(root, seed=0, patients=PATIENTS.value, size=SIZE.value, slices=(20, 28))
        found = measure(root, BATCH.value, WORKERS.value, SECONDS.value)
    packages = ("numpy", "grain", "opencv-python-headless", "torch", "albumentations")
    found = {**environment.describe(packages), "data": "LGG" if DATA.value else "phantom", **found}
    for name, speed in found["images_per_second"].items():
        print(f"{name}: {speed:,.0f} images/s")
    for name, one in found["against"].items():
        print(f"unet_jax against {name}: {one['ratio']:.1f}× ({one['lower']:.1f} to {one['upper']:.1f})")
    if KEEP.value:
        print(f"written to {results.write('input_pipeline', found)}")


if __name__ == "__main__":
    app.run(main)
