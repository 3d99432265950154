"""Masks → numbers: overlap, surfaces, lesions, whole cases.

The functions of `overlap` stand here by name. Called by evaluation and reports; knows neither networks nor files.
"""

from unet_jax.metrics.overlap import (
    count,
    dice,
    distribution,
    iou,
    is_empty,
    mean_of_defined,
    precision,
    recall,
    specificity,
)

__all__ = [
    "count",
    "dice",
    "distribution",
    "iou",
    "is_empty",
    "mean_of_defined",
    "precision",
    "recall",
    "specificity",
]
