import numpy as np
import pytest

from benchmarks import after_training
from unet_jax.data.case import Case
from unet_jax.inference.windows import Segmented, Wanted


def test_each_way_to_post_process_is_scored_at_each_threshold():
    """A tumour of 40 by 40 with a sure half and an unsure one, and a false part of 30 by 10."""
    truth, probability = np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64), np.float32)
    truth[0, :40, :40] = 1
    probability[0, :40, :20], probability[0, :40, 20:40], probability[0, 50:60, :30] = 0.9, 0.35, 0.65
    case = Case("p", "p", np.zeros((1, 64, 64, 1), np.uint8), truth)
    segmented = Segmented(Wanted(0, case, np.arange(1)), (probability >= 0.5).astype(np.uint8), probability)
    found = after_training.mean_dice([segmented])
    whole, half = 3200 / 3500, 1600 / 2700
    assert found["as predicted"] == pytest.approx([whole, whole, half, half, half, 1600 / 2400])
    assert found["largest_component"] == pytest.approx([1, 1, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert found["minimum_voxels=200"] == found["as predicted"]
    assert found["minimum_voxels=1000"][:2] == [1, 1]
    assert found["minimum_voxels=1000"][3] == 0


def test_folds_weigh_as_their_patients():
    by_fold = [{"flips": [0.2] * 6}, {"flips": [0.8] * 6}]
    lines = after_training.table(by_fold, [1, 3]).splitlines()
    assert lines[0] == "| | 0.2 | 0.3 | 0.4 | 0.5 | 0.6 | 0.7 |"
    assert lines[2] == "| flips | 0.650 | 0.650 | 0.650 | 0.650 | 0.650 | 0.650 |"
