import subprocess
import sys

import numpy as np
import pytest
from nnunet_arrays import answers, arrays, part

from unet_jax.errors import InputError
from unet_jax.plan.resample import (
    Resampling,
    matrices,
    new_shape,
    resample_image,
    resample_mask,
    resample_slabs,
    thick_axis,
)

ISO = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("call", answers()["resampling"], ids=lambda call: call["name"])
def test_as_nnunet(call):
    given, expected = (arrays("resampling")[f"{call['name']}_{which}"] for which in ("in", "out"))
    shape = tuple(call["new_shape"])
    spacings = [tuple(map(float, call[key])) for key in ("current_spacing", "new_spacing")]
    how = Resampling(call["order"], call["order_z"])
    if call["is_seg"]:
        found = resample_mask(given[0], shape, *spacings, how)
        assert found.dtype == call["out_dtype"]
        np.testing.assert_array_equal(found, expected[0])
    else:
        image = np.moveaxis(given, 0, -1)
        found = resample_image(image, shape, *spacings, how)
        np.testing.assert_allclose(part(np.moveaxis(found, -1, 0)), expected, rtol=0, atol=1e-6)
        slabs = np.full_like(found, np.nan)
        for place, slab in resample_slabs(image, shape, *spacings, how):
            slabs[place] = slab
        np.testing.assert_array_equal(slabs, found)
        if max(how.order, how.order_z) <= 1:
            along = matrices(image.shape[:3], shape, *spacings, how)
            product = np.einsum("Zz,Yy,Xx,zyxc->ZYXc", *along, image, optimize=True)
            np.testing.assert_allclose(product, found, rtol=0, atol=1e-5)


def test_matrices_of_what_stays_as_it_is():
    for shape, how in (((2, 3, 4), Resampling(1)), ((5, 5, 5), Resampling(1, enabled=False))):
        for size, matrix in zip((2, 3, 4), matrices((2, 3, 4), shape, ISO, ISO, how), strict=True):
            np.testing.assert_array_equal(matrix, np.eye(size))


@pytest.mark.parametrize("call", answers()["separate_z"], ids=lambda call: f"{call['current']}-{call['new']}")
def test_thick_slices_as_nnunet(call):
    present, target = (tuple(map(float, call[key])) for key in ("current", "new"))
    assert thick_axis(present, target) == call["axis"]
    assert list(new_shape((20, 50, 41), present, target)) == call["new_shape_of_20_50_41"]


def test_thick_slices_by_force():
    assert thick_axis((9.0, 1.0, 1.0), ISO, separate=False) is None
    assert thick_axis((1.0, 2.0, 1.0), ISO, separate=True) == 1
    assert thick_axis(ISO, (9.0, 1.0, 1.0), separate=True) is None


def test_switched_off_nothing_changes():
    image = np.ones((3, 4, 5, 2), np.float32)
    assert resample_image(image, (6, 8, 10), ISO, (0.5, 0.5, 0.5), Resampling(3, enabled=False)) is image


def test_masks_of_a_higher_order_are_refused():
    with pytest.raises(InputError, match="order 3, order_z 0; masks are resampled with order 0"):
        resample_mask(np.zeros((2, 2, 2), np.int8), (4, 4, 4), ISO, (0.5, 0.5, 0.5), Resampling(3))


def test_a_mask_of_nearest_voxels():
    mask = np.arange(8, dtype=np.int8).reshape(2, 2, 2)
    found = resample_mask(mask, (4, 4, 4), ISO, (0.5, 0.5, 0.5), Resampling(0))
    np.testing.assert_array_equal(found, mask.repeat(2, 0).repeat(2, 1).repeat(2, 2))


CT = """
import resource, sys
import numpy as np
from unet_jax.plan.resample import new_shape, resample_image, resample_mask
image, spacing, target = np.random.default_rng(0).standard_normal((600, 512, 512, 1), np.float32), (1.0, 0.8, 0.8), {}
shape = new_shape(image.shape[:3], spacing, target)
found = resample_image(image, shape, spacing, target)
assert found.shape[:3] == shape and image.min() <= found.min() < found.max() <= image.max()
del found
mask = np.zeros(image.shape[:3], np.int8)
mask[100:300, 100:400, 100:400] = 1
assert resample_mask(mask, shape, spacing, target).any()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", [(0.8, 0.65, 0.65), (1.5, 1.2, 1.2)])
def test_a_ct_of_512_512_600_needs_less_than_4_gb(target):
    # Seconds are measured by hand: other work on the machine would change them.
    done = subprocess.run([sys.executable, "-c", CT.format(target)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * 2**20
