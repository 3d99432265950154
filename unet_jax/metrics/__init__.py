"""Masks → numbers: overlap, surface distances, lesions, whole cases and statistics over patients.

Called by evaluation and reports; knows neither networks nor files. The functions of `overlap` and `statistics` are also
names of this package.
"""

from unet_jax.metrics.overlap import count, count_classes, dice, iou, is_empty, precision, recall, specificity
from unet_jax.metrics.statistics import bootstrap_interval, distribution, mean_of_defined

__all__ = [
    "bootstrap_interval",
    "count",
    "count_classes",
    "dice",
    "distribution",
    "iou",
    "is_empty",
    "mean_of_defined",
    "precision",
    "recall",
    "specificity",
]
