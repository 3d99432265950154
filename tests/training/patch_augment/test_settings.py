import dataclasses
import math

import pytest
from nnunet_arrays import plans_of

from unet_jax.training.patch_augment.settings import CHANCES, AugmentSettings, Chance

GROUPS = {
    "rotation": {"probability": 0.2, "degrees": None},
    "mirror": {"probability": 0.5, "axes": None},
    **{name: {"probability": 0.25, "range": [0.5, 1.0], "each": 0.5} for name in CHANCES},
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    return plans_of(tmp_path_factory.mktemp("plans"), "real_aniso_2ch_mask")


def test_a_configuration_says_the_patch_and_how_far_it_is_rotated(plans):
    for name, degrees in (("2d", 180), ("3d_fullres", 30)):
        configuration = dataclasses.replace(
            plans.configurations[name], patch_size=(24, 24, 24)[: 2 if name == "2d" else 3]
        )
        found = AugmentSettings.of(configuration, GROUPS, labels=[1, 2])
        assert found.patch == configuration.patch_size
        assert found.rotation == Chance(0.2, (-math.radians(degrees), math.radians(degrees)))
        assert found.mirror_axes == tuple(range(len(found.patch)))
        assert found.inside_only == tuple(configuration.inside_only)
        assert found.blur == Chance(0.25, (0.5, 1.0), each=0.5)
        assert found.labels == (1, 2)
        assert not found.dummy_2d
        hash(found)


def test_a_flat_patch_is_rotated_in_its_slices(plans):
    flat = dataclasses.replace(plans.configurations["3d_fullres"], patch_size=(8, 32, 24))
    found = AugmentSettings.of(flat, GROUPS)
    assert found.dummy_2d
    assert found.rotation.range == (-math.pi, math.pi)


def test_degrees_and_axes_of_the_config_win(plans):
    groups = GROUPS | {
        "rotation": {"probability": 1.0, "degrees": 10.0},
        "mirror": {"probability": 0.5, "axes": [1]},
    }
    found = AugmentSettings.of(plans.configurations["3d_fullres"], groups)
    assert found.rotation.range == pytest.approx((-math.radians(10), math.radians(10)))
    assert found.mirror_axes == (1,)
