"""How well intensity alone separates tumour from other tissue over all patients, for several normalisations.

    python -m benchmarks.intensities --root=data/kaggle_3m

Prints the area under the ROC curve by sequence; below .5, tumour is darker than other tissue.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from tqdm import tqdm

from unet_jax.data import intensity
from unet_jax.data.formats import lgg
from unet_jax.data.formats.image_file import read_file

SAMPLES = 2000
SEQUENCES = ("pre-contrast", "FLAIR", "post-contrast")


def _z_scores(image: np.ndarray) -> np.ndarray:
    channels = []
    for channel in np.moveaxis(image.astype(np.float32), -1, 0):
        values = channel[channel > 0]
        channels.append((channel - values.mean()) / values.std())
    return np.stack(channels, -1)


NORMALISATIONS = {
    "as the files are": lambda image: image,
    "volume": lambda image: intensity.normalise(image, "volume"),
    "z-scores of what is not 0": _z_scores,
}


def _area(tumour: np.ndarray, tissue: np.ndarray) -> float:
    """The share of pairs in which the pixel of tumour is the brighter one (Mann and Whitney 1947)."""
    ranks = rankdata(np.concatenate([tumour, tissue]))[: len(tumour)]
    return (ranks.sum() - len(tumour) * (len(tumour) + 1) / 2) / (len(tumour) * len(tissue))


def main() -> None:
    """Draws as many pixels of tumour and of other tissue from each patient, and compares them over all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/kaggle_3m"))
    root = parser.parse_args().root
    rng = np.random.default_rng(0)
    samples = defaultdict(list)
    for files in tqdm(lgg.find(root), unit="case", disable=None):
        case = lgg.decode(files, lambda path: read_file(root, path))
        # Air is no tissue: what is darker than a third of the brighter parts.
        tissue = (case.image > 0.3 * np.percentile(case.image, 95, (0, 1, 2))).any(-1)
        chosen = [
            rng.choice(np.flatnonzero(part), min(SAMPLES, np.count_nonzero(part)))
            for part in (case.mask == 1, (case.mask == 0) & tissue)
            if part.any()
        ]
        if len(chosen) < 2:
            continue
        for name, normalise in NORMALISATIONS.items():
            pixels = normalise(case.image).reshape(-1, case.image.shape[-1])
            samples[name].append([pixels[positions] for positions in chosen])
    for name, patients in samples.items():
        tumour, tissue = (np.concatenate(part) for part in zip(*patients, strict=True))
        areas = (f"{SEQUENCES[n]} {_area(tumour[:, n], tissue[:, n]):.3f}" for n in range(len(SEQUENCES)))
        print(f"{name:26s} {', '.join(areas)}")


if __name__ == "__main__":
    main()
