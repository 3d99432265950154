import numpy as np
import pytest
from nnunet_arrays import arrays

from unet_jax.plan import foreground
from unet_jax.plan.dataset import from_json

KEYS = [1, 2, (1, 3), 7]


def test_as_nnunet():
    golden = arrays("locations")
    found = foreground.locations(golden["mask"], KEYS)
    assert list(found) == KEYS
    for key, voxels in found.items():
        expected = golden[f"cl_{key}".replace(" ", "")]
        # nnU-Net's have the channel in front; the golden file keeps the first 200.
        assert not len(expected) or (expected[:, 0] == 0).all()
        np.testing.assert_array_equal(voxels[: len(expected)], expected[:, 1:] if len(expected) else voxels)


@pytest.mark.parametrize(("voxels", "count"), [(0, 0), (1, 1), (9_999, 9_999), (30_000, 10_000), (1_200_050, 12_001)])
def test_how_many(voxels, count):
    mask = np.zeros((1, 1, 1_500_000), np.int8)
    mask[..., :voxels] = 1
    [found] = foreground.locations(mask, [1]).values()
    assert found.shape == (count, 3)
    assert len(np.unique(found[:, 2])) == count
    assert (mask[tuple(found.T)] == 1).all()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "a": 1, "b": 2}, [1, 2]),
        ({"background": 0, "a": 1, "ignore": 2}, [1, (-1, 0, 1)]),
        ({"background": 0, "whole": [1, 2], "core": 2}, [(1, 2), 2]),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, [(1, 2), 2, (-1, 0, 1, 2)]),
    ],
)
def test_classes(labels, expected):
    description = {"channel_names": {"0": "T1"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    if "whole" in labels:
        description["regions_class_order"] = [1, 2]
    assert foreground.classes(from_json(description, "Dataset001_X")) == expected
