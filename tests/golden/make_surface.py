"""Surface scores of random blobs by MONAI: surface.npz, made with monai 1.6.1 and torch 2.13.0 (CPU).

For each number n: `n/predicted` and `n/truth`, bool [d, h, w]; `n/spacing` and `n/tolerance` in mm;
`n/scores`: the 95 % Hausdorff and the average symmetric surface distance, in mm, and the surface Dice.
"""

from pathlib import Path

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

ISOTROPIC, THICK_SLICES, ODD = (1.0, 1.0, 1.0), (5.0, 0.9, 0.9), (0.7, 2.0, 1.3)
# size, spacing, tolerance, how alike the two masks are, the share of the truth that is foreground
KINDS = (
    ((12, 20, 18), ISOTROPIC, 1.0, 0.6, 0.2),
    ((12, 20, 18), THICK_SLICES, 2.0, 0.6, 0.2),
    ((12, 20, 18), ODD, 1.5, 0.6, 0.2),
    # mostly foreground, so at the volume's edge
    ((10, 16, 16), THICK_SLICES, 1.0, 0.8, 0.7),
    # two unlike masks
    ((10, 16, 16), ODD, 2.0, 0.0, 0.1),
    # scattered single voxels
    ((6, 12, 12), THICK_SLICES, 6.0, 0.5, 0.01),
    # pictures
    ((1, 40, 36), ISOTROPIC, 1.0, 0.6, 0.25),
    ((1, 40, 36), THICK_SLICES, 2.0, 0.5, 0.25),
)


def blobs(rng: np.random.Generator, size: tuple, alike: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of smooth noise, cut off to a share of foreground, 1.2 times that in the prediction."""
    common, first, second = (ndimage.gaussian_filter(rng.normal(size=size), 1.5) for _ in range(3))
    fields = (alike * common + (1 - alike) * own for own in (first, second))
    predicted, truth = (
        field > np.quantile(field, 1 - part) for field, part in zip(fields, (1.2 * share, share), strict=True)
    )
    return predicted, truth


def monai_scores(predicted: np.ndarray, truth: np.ndarray, spacing: tuple, tolerance: float) -> list[float]:
    """A volume of one slice is given to MONAI as a picture."""
    if len(predicted) == 1:
        predicted, truth, spacing = predicted[0], truth[0], spacing[1:]
    masks = [torch.tensor(mask[None, None]) for mask in (predicted, truth)]
    common = {"include_background": True, "spacing": spacing}
    return [
        compute_hausdorff_distance(*masks, percentile=95, **common).item(),
        compute_average_surface_distance(*masks, symmetric=True, **common).item(),
        compute_surface_dice(*masks, class_thresholds=[tolerance], **common).item(),
    ]


if __name__ == "__main__":
    arrays = {}
    for number, (size, spacing, tolerance, alike, share) in enumerate(KINDS):
        predicted, truth = blobs(np.random.default_rng(number), size, alike, share)
        arrays |= {
            f"{number}/predicted": predicted,
            f"{number}/truth": truth,
            f"{number}/spacing": np.array(spacing),
            f"{number}/tolerance": np.array(tolerance),
            f"{number}/scores": np.array(monai_scores(predicted, truth, spacing, tolerance)),
        }
    np.savez_compressed(Path(__file__).with_name("surface.npz"), **arrays)
