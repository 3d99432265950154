import numpy as np
import pytest

from unet_jax.data import intensity
from unet_jax.errors import InputError


def _volume(dtype):
    image = np.random.default_rng(0).gamma(2, 20, (6, 40, 40, 2)).clip(1, 250)
    image[..., 1] *= 0.3
    image[:, :20] = 0
    return image.astype(dtype)


def test_range_changes_nothing_and_auto_follows_the_type():
    small, real = _volume(np.uint8), _volume(np.float32)
    assert intensity.normalise(small, "range") is small
    assert intensity.normalise(real, "range") is real
    assert intensity.normalise(small, "auto") is small
    np.testing.assert_array_equal(intensity.normalise(real, "auto"), intensity.normalise(real, "volume"))


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.float32, 1)])
def test_a_volume_spans_its_type_and_keeps_it(dtype, top):
    image = _volume(dtype)
    result = intensity.normalise(image, "volume")
    assert result.dtype == dtype
    for channel in range(2):
        tissue = image[..., channel][image[..., channel] > 0]
        low, high = np.percentile(tissue, [0.5, 99.5])
        expected = np.clip((image[..., channel].astype(float) - low) / (high - low), 0, 1) * top
        assert np.abs(result[..., channel] - expected).max() <= (0.5 if top == 255 else 1e-7)
    assert not result[:, :20].any()
    assert result.max() == top


def test_scanners_of_other_scale_and_channels_of_other_brightness_come_out_alike():
    real = _volume(np.float32)
    scaled = real * np.array([400, 0.01], np.float32)
    np.testing.assert_allclose(intensity.normalise(scaled, "volume"), intensity.normalise(real, "volume"), atol=1e-5)


def test_with_negative_values_zero_is_a_value_like_any():
    hounsfield = np.linspace(-1000, 1000, 4000, dtype=np.float32).reshape(1, 40, 100, 1)
    result = intensity.normalise(hounsfield, "volume")
    # By the percentiles of a uniform distribution, the middle stays in the middle.
    np.testing.assert_allclose(np.median(result), 0.5, atol=1e-6)
    np.testing.assert_allclose(result, np.clip((hounsfield / 2000) / 0.99 + 0.5, 0, 1), atol=1e-6)


@pytest.mark.parametrize("value", [0, 7, -3])
def test_a_volume_of_one_value_stays_finite(value):
    result = intensity.normalise(np.full((1, 2, 2, 1), value, np.float32), "volume")
    assert not result.any()


def test_the_ends_of_float32_do_not_overflow():
    wide = np.array([-3e38, 0, 3e38], np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(intensity.normalise(wide, "volume").ravel(), [0, 0.5, 1], atol=1e-6)


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match=r"config\.data\.intensity is 'zscore'; .* auto, range, volume\."):
        intensity.check_mode("zscore")
