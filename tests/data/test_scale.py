import numpy as np
import pytest

from unet_jax.data import scale
from unet_jax.data.case import Case


def image(factor=1.0, dtype=np.float32, channels=1, seed=0):
    """Values from 20 to 119 times `factor`, each equally often."""
    values = np.random.default_rng(seed).permutation(np.arange(20, 120).repeat(16)).reshape(1, 40, 40, 1)
    return np.repeat(values * factor, channels, axis=-1).astype(dtype)


def trained(*images, mode="range", matters=None):
    cases = [Case(f"case {number}", "", one, None) for number, one in enumerate(images)]
    return scale.read(scale.record(cases), mode, matters or [True] * images[0].shape[-1])


def said(trained, *images, names=()):
    measured = [scale.measure(name, one) for name, one in zip("abcdefgh", images, strict=False)]
    return scale.warnings(trained, measured, names)


def test_the_record_has_the_ends_of_every_percentile():
    record = scale.record([Case("a", "", image(), None), Case("b", "", image(2), None)])
    (channel,) = record["channels"]
    assert record["types"] == ["float32"]
    # of 1600 values, 16 of each from 20 to 119
    assert channel["median"] == [69.5, 139]
    # sorted, place .01 * 1599 = 15.99 lies between a 20 and a 21, and 1583.01 between a 118 and a 119
    assert channel["low"] == pytest.approx([20.99, 41.98])
    assert channel["high"] == pytest.approx([118.01, 236.02])
    assert channel["width"] == pytest.approx([97.02, 194.04])


@pytest.mark.parametrize("factor", [256, 1 / 256, 8])
def test_another_scale_is_named_with_what_was_measured(factor):
    (line,) = said(trained(image()), image(), image(factor))
    assert line.startswith("1 of 2 cases are on another scale of intensities than training (b: the median is ")
    assert f"{69.5 * factor:.4g}" in line
    assert "(float32), where training had " in line
    assert line.endswith("): give images on the scale of training.")


@pytest.mark.parametrize("factor", [0.5, 1, 2, 3])
def test_scanners_differ_a_little_without_a_word(factor):
    assert said(trained(image(), image(seed=1)), image(factor, seed=2)) == []


def test_eight_bits_and_floats_from_0_to_1_are_one_scale_in_a_range():
    assert said(trained(image(dtype=np.uint8)), image(1 / 255)) == []
    (line,) = said(trained(image(dtype=np.uint8)), image())
    assert "the median is 69.5" in line
    assert line.count("(float32)") == line.count("(uint8)") == 1


def test_what_is_stretched_meets_what_is_not():
    eight, floats = image(dtype=np.uint8), image(1 / 120)
    (line,) = said(trained(eight, mode="auto"), floats)
    assert "a: it has float32, which is stretched by its percentiles to 0 to 1, and training had uint8" in line
    assert line.endswith("or train with config.data.intensity='volume'.")
    (line,) = said(trained(floats, mode="auto"), eight)
    assert "a: training had float32, which is stretched by its percentiles to 0 to 1, and it has uint8" in line
    assert said(trained(floats, eight, mode="auto"), floats, eight) == []
    assert said(trained(floats, mode="auto"), image(256)) == []


def test_silence_where_it_does_not_matter():
    assert said(trained(image(), mode="volume"), image(256)) == []
    assert said(trained(image(), matters=[False]), image(256)) == []
    assert said(None, image(256)) == []
    assert said(trained(image()), np.zeros((1, 4, 4, 1), np.float32)) == []
    assert said(trained(np.zeros((1, 4, 4, 1), np.float32)), image()) == []


def clipped(at, dtype=np.float32, **options):
    """Of 100 values, each equally often, those above `at` are `at`."""
    return np.minimum(image(**options), at).astype(dtype)


def test_clipped_images_are_named_with_the_share_at_their_maximum():
    """Of 20 to 119, the 20 values from 100 on become 100."""
    (line,) = said(trained(image()), image(), clipped(100))
    assert line == (
        "1 of 2 cases have more voxels at the image's maximum than training, as clipped images do (b: 20 % at 100 "
        "(float32), where training had at most 1 %): give images whose brightness is not cut off."
    )
    # Five times as bright, and cut off at 255: of 20 to 119 those from 51 on.
    eight, bright = image(dtype=np.uint8), clipped(255, np.uint8, factor=5)
    for mode in ("range", "auto"):
        line = said(trained(eight, mode=mode), bright)[-1]
        assert line.startswith("1 case has more voxels")
        assert "69 % at 255 (uint8)" in line
    assert "20 % at 100" in said(trained(image(), mode="volume", matters=[False]), clipped(100))[0]


def test_a_small_clipped_part_is_no_reason_to_warn():
    assert said(trained(image()), clipped(115)) == []  # 5 %, and 1 % in training
    assert said(trained(clipped(80)), clipped(78)) == []  # as much of it in training
    assert said(trained(image()), np.full((1, 4, 4, 1), 50, np.float32)) == []


def test_a_run_that_did_not_record_it_says_nothing_of_it():
    record = scale.record([Case("a", "", image(), None)])
    del record["channels"][0]["at_maximum"]
    assert said(scale.read(record, "range", [True]), clipped(100)) == []


def test_the_channel_is_named_and_cases_are_summed_up():
    odd = image(channels=2) * np.array([1, 300], np.float32)
    (line,) = said(trained(image(channels=2)), *[odd] * 5, names=("T1", "FLAIR"))
    assert line.startswith("5 of 5 cases are on another scale")
    assert line.count("the median of FLAIR is ") == 3
    assert "; and 2 more)" in line
