"""Scores as nnU-Net takes them: of each label or region by itself, of a case and over the cases of a data set.

They choose between configurations, so that the choice is nnU-Net's; what a run reports of itself is in `summary`. What
nnU-Net calls NaN is None here, and NaN in its own file.

Source: nnunetv2 2.8.1, evaluation/evaluate_predictions.py.
"""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer

from unet_jax.metrics import overlap, statistics

# A label, or the labels of a region.
Key = int | tuple[int, ...]
Scores = dict[str, int | float | None]

NAMES = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")


def region(mask: Integer[np.ndarray, "..."], keys: Sequence[Key]) -> np.ndarray:
    """Where a mask has any of these labels, or of the labels of these regions; of bools."""
    return np.isin(mask, [label for key in keys for label in (key if isinstance(key, tuple) else (key,))])


def score(
    predicted: Integer[np.ndarray, "*case"],
    truth: Integer[np.ndarray, "*case"],
    keys: Sequence[Key],
    ignored: int | None = None,
) -> dict[Key, Scores]:
    """The scores of a case, by label or region; Dice and IoU are None where both masks have nothing of it.

    Args:
        predicted: labels.
        truth: labels.
        keys: what is scored, without the background.
        ignored: voxels of `truth` with this label are left out.
    """
    counted = None if ignored is None else truth != ignored
    return {key: _score(region(predicted, [key]), region(truth, [key]), counted) for key in keys}


def _score(predicted: np.ndarray, truth: np.ndarray, counted: np.ndarray | None) -> Scores:
    if counted is not None:
        predicted, truth = predicted[counted], truth[counted]
    tp = int(np.count_nonzero(predicted & truth))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(truth)) - tp
    counts = np.array([tp, fp, fn], np.int64)
    values = overlap.dice(counts), fn, fp, overlap.iou(counts), predicted.size - tp - fp - fn, tp, tp + fp, tp + fn
    return dict(zip(NAMES, values, strict=True))


def means(cases: Sequence[Mapping[Key, Scores]]) -> dict[Key, Scores]:
    """Of each label or region, the mean over the cases in which a score is defined."""
    return {
        key: {name: statistics.mean_of_defined(case[key][name] for case in cases) for name in NAMES} for key in cases[0]
    }


def foreground_mean(by_key: Mapping[Key, Scores]) -> Scores:
    """The mean of `means` over labels or regions; None where it is undefined for one of them."""
    values = {name: [scores[name] for scores in by_key.values()] for name in NAMES}
    return {name: None if None in of else statistics.mean_of_defined(of) for name, of in values.items()}


def summary_file(cases: Sequence[tuple[str, str, Mapping[Key, Scores]]]) -> str:
    """The text of nnU-Net's summary.json.

    Args:
        cases: reference, prediction and scores of each; the first two are what the file calls them.
    """
    by_key = means([scores for *_, scores in cases])
    content = {
        "foreground_mean": _as_written(foreground_mean(by_key)),
        "mean": {str(key): _as_written(scores) for key, scores in by_key.items()},
        "metric_per_case": [
            {
                "metrics": {str(key): _as_written(of) for key, of in scores.items()},
                "prediction_file": prediction,
                "reference_file": reference,
            }
            for reference, prediction, scores in cases
        ],
    }
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def _as_written(scores: Scores) -> dict[str, int | float]:
    return {name: math.nan if value is None else value for name, value in scores.items()}
