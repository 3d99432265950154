import math

import numpy as np
import pytest
from nnunet_answers import planning

from unet_jax.plan.topology import topology


@pytest.mark.parametrize("case", planning()["topology"], ids=lambda case: f"{case['spacing']}-{case['patch_in']}")
def test_as_nnunet(case):
    found = topology(case["spacing"], case["patch_in"])
    assert [list(stride) for stride in found.strides] == case["strides"]
    assert [list(kernel) for kernel in found.kernels] == case["kernels"]
    assert list(found.patch) == case["patch_out"]
    assert list(found.divisor) == case["divisible_by"]


@pytest.mark.parametrize("seed", range(50))
def test_what_holds_for_every_network(seed):
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(2, 4))
    spacing, size = rng.uniform(0.3, 8, axes).tolist(), rng.integers(1, 400, axes).tolist()
    found = topology(spacing, size)
    assert found.strides[0] == (1,) * axes
    assert len(found.kernels) == len(found.strides)
    for wanted, padded, divisor in zip(size, found.patch, found.divisor, strict=True):
        assert padded % divisor == 0
        assert wanted <= padded < wanted + divisor
        # A halved axis keeps four voxels, of the size that was asked for.
        assert divisor == 1 or math.ceil(wanted / divisor) >= 4


def test_a_coarse_axis_waits_until_the_others_have_caught_up():
    found = topology([4.0, 1.0, 1.0], [32, 128, 128])
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert found.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_half_a_voxel_is_padded():
    assert topology([1.0, 1.0], [7.5, 16.5]).patch == (8, 18)
