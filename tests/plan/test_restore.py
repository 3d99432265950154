import numpy as np
import pytest
from nnunet_arrays import arrays, part, plans_of

from unet_jax.errors import InputError
from unet_jax.plan import cascade, restore
from unet_jax.plan.dataset import from_json
from unet_jax.plan.preprocess import Geometry


def dataset(labels, order=None):
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    return from_json(description | ({} if order is None else {"regions_class_order": order}), "Dataset001_X")


TWO = dataset({"background": 0, "a": 1})
THREE = dataset({"background": 0, "a": 1, "b": 2})
REGIONS = dataset({"background": 0, "whole": [1, 2], "core": [2]}, order=[1, 2])
# What nnU-Net found for the two real cases; see properties.
THICK = Geometry(
    (3.200000047683716, 0.8999999761581421, 0.8999999761581421), (11, 50, 46), ((1, 10), (9, 41), (10, 38))
)
CT = Geometry((1.0, 0.8999999761581421, 0.8999999761581421), (46, 46, 45), ((0, 46), (0, 46), (0, 45)))


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_thick_slices_as_nnunet(configuration, tmp_path):
    plans, golden = plans_of(tmp_path, "real_aniso_2ch_mask"), arrays("real_aniso_2ch_mask")
    given = np.moveaxis(golden["logits"], 0, -1), THICK, plans, plans.configurations[configuration], TWO
    mask = restore.to_mask(*given)
    assert mask.dtype == golden["exported_seg"].dtype
    np.testing.assert_array_equal(mask, golden["exported_seg"])
    found = np.moveaxis(restore.to_probabilities(*given), -1, 0)
    # nnU-Net's are kept in half precision.
    np.testing.assert_allclose(part(found), golden["exported_prob"], rtol=0, atol=3e-4)


def test_the_cascade_as_nnunet(tmp_path):
    plans, golden = plans_of(tmp_path, "real_cascade"), arrays("real_cascade")
    low, full = plans.configurations["3d_lowres"], plans.configurations["3d_cascade_fullres"]
    logits = np.moveaxis(golden["lowres_logits"], 0, -1) / np.float32(16)
    found = restore.to_mask(logits, CT, plans, low, THREE), cascade.from_logits(logits, CT.shape, low, THREE)
    expected = golden["exported_lowres_seg"], golden["prev_seg_for_training"]
    # The golden logits are off by up to 1/32: only where the two largest are closer than 1/16 may that matter.
    two = np.sort(restore.to_probabilities(logits, CT, plans, low, THREE), axis=-1)[..., 1:]
    clear = np.log(two[..., 1] / two[..., 0]) > 1 / 16
    assert clear.mean() > 0.9
    for mask, golden_mask in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask[clear], golden_mask[clear])

    before = cascade.from_mask(golden["exported_lowres_seg"], CT, plans, full)
    np.testing.assert_array_equal(before, golden["prev_seg_at_inference"][0])
    np.testing.assert_array_equal(np.moveaxis(cascade.one_hot(before, THREE), -1, 0), golden["onehot_at_inference"])


def test_labels_of_regions():
    # whole, core: neither, whole alone, both, core alone, both exactly at one half.
    logits = np.array([[-1, -1], [2, -3], [1, 1], [-1, 5], [0, 0]], np.float32).reshape(1, 1, 5, 2)
    assert restore.decide(logits, REGIONS).ravel().tolist() == [0, 1, 2, 2, 0]
    painted = dataset({"background": 0, "core": [2], "whole": [1, 2]}, order=[2, 1])
    assert restore.decide(logits[..., ::-1], painted).ravel().tolist() == [0, 1, 1, 2, 0]


def test_outside_of_the_box_is_background(tmp_path):
    plans = plans_of(tmp_path, "real_cascade")
    configuration = plans.configurations["3d_fullres"]
    geometry = Geometry(configuration.spacing, (6, 6, 6), ((1, 3), (2, 4), (3, 5)))
    outside = np.ones((6, 6, 6), bool)
    outside[1:3, 2:4, 3:5] = False
    for of, expected in ((THREE, [1, 0, 0]), (REGIONS, [0, 0])):
        found = restore.to_probabilities(
            np.full((2, 2, 2, len(expected)), 3, np.float32), geometry, plans, configuration, of
        )
        np.testing.assert_array_equal(found[outside], np.broadcast_to(expected, (208, len(expected))))
        assert np.allclose(found[~outside], 1 / 3 if of is THREE else 1 / (1 + np.exp(-3)))


def test_one_hot_of_regions_is_by_label():
    mask = np.array([[[0, 1, 2]]])
    assert cascade.one_hot(mask, REGIONS).tolist() == [[[[0, 0], [1, 0], [0, 1]]]]


def test_logits_of_another_network(tmp_path):
    plans = plans_of(tmp_path, "real_cascade")
    with pytest.raises(InputError, match=r"there are 2 channels of logits, and dataset.json asks for 3"):
        restore.to_mask(np.zeros((2, 2, 2, 2), np.float32), CT, plans, plans.configurations["3d_fullres"], THREE)
