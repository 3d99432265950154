import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.report.packed_masks import pack
from unet_jax.training import tensorboard_pictures
from unet_jax.training.tensorboard_pictures import PREDICTED, TRUE, WIDTH


def _square(first, last, size=8):
    mask = np.zeros((size, size), np.uint8)
    mask[first:last, first:last] = 1
    return mask


def _is(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(-1)


def _case(name, areas, size=8, channels=3):
    """A black case with a square of so many pixels a side in each slice; channel 1 is grey."""
    image = np.zeros((len(areas), size, size, channels), np.uint8)
    image[..., 1 if channels > 1 else 0] = 100
    return Case(name, name, image, np.stack([_square(0, area, size) for area in areas]), None)


def test_outlines_run_along_the_edges_of_the_masks_in_lines_of_one_width():
    picture = tensorboard_pictures.outlined(np.full((8, 8), 50, np.uint8), _square(2, 6), _square(3, 5))
    assert picture.shape == (512, 512, 3)
    for colour, first, last in ((PREDICTED, 3 * 64, 5 * 64 - 1), (TRUE, 2 * 64, 6 * 64 - 1)):
        rows, columns = np.nonzero(_is(picture, colour))
        from_edge = np.minimum.reduce([abs(line - edge) for line in (rows, columns) for edge in (first, last)])
        assert from_edge.max() <= WIDTH
        assert (rows.min(), rows.max()) == pytest.approx((first, last), abs=WIDTH)
    # Where it is drawn, a line is as wide as the other.
    assert _is(picture, TRUE)[300, :200].sum() == _is(picture, PREDICTED)[:200, 196].sum()
    assert (picture[160, 160] == 50).all()


def test_where_both_agree_both_are_seen():
    """The predicted outline is dashed, and the true one is seen in its gaps."""
    picture = tensorboard_pictures.outlined(np.zeros((8, 8), np.uint8), _square(2, 6), _square(2, 6))
    predicted, true = _is(picture, PREDICTED).sum(), _is(picture, TRUE).sum()
    assert predicted > true > predicted / 3


def test_a_key_below_says_which_outline_is_which():
    picture = tensorboard_pictures.with_key(np.full((512, 512, 3), 50, np.uint8))
    assert (picture[:512] == 50).all()
    strip = picture[512:]
    assert _is(strip, TRUE).any()
    assert _is(strip, PREDICTED).any()
    assert np.nonzero(_is(strip, TRUE))[1].max() < np.nonzero(_is(strip, PREDICTED))[1].min()
    assert (strip == 255).any()


@pytest.mark.parametrize(("size", "side"), [(64, 512), (200, 600), (256, 512), (512, 512), (600, 600)])
def test_pictures_are_enlarged_by_whole_pixels(size, side):
    picture = np.random.default_rng(0).integers(0, 256, (size, size // 2), np.uint8)
    empty = np.zeros_like(picture)
    drawn = tensorboard_pictures.outlined(picture, empty, empty)
    assert drawn.shape == (side, side // 2, 3)
    times = side // size
    for channel in range(3):
        np.testing.assert_array_equal(drawn[::times, ::times, channel], picture)


def test_the_slice_with_the_most_tumour_is_shown_of_cases_spread_over_all():
    cases = [_case(f"c{number}", [0, 2, 4, 3]) for number in range(9)]
    predicted = {number: pack(np.arange(4), np.zeros((4, 8, 8), np.uint8)) for number in range(7)}
    drawn = tensorboard_pictures.draw(cases, predicted, channel=1)
    assert list(drawn) == ["c0/slice 3", "c2/slice 3", "c4/slice 3", "c6/slice 3"]
    picture = drawn["c0/slice 3"]
    assert _is(picture[:512], TRUE).any()
    assert not _is(picture[:512], PREDICTED).any()
    # Stretched to white: the slice holds nothing brighter.
    assert (picture[511, 511] == 255).all()


def test_only_validated_slices_are_shown():
    cases = [_case("c", [4, 0, 1, 2], channels=1)]
    predicted = {0: pack(np.array([1, 2], np.int32), np.stack([_square(5, 7), _square(4, 7)]))}
    drawn = tensorboard_pictures.draw(cases, predicted, channel=1)
    assert list(drawn) == ["c/slice 3"]
    rows, _ = np.nonzero(_is(drawn["c/slice 3"], PREDICTED))
    rows = rows[rows < 512]
    assert (rows.min(), rows.max()) == pytest.approx((4 * 64, 7 * 64 - 1), abs=WIDTH)


def test_what_is_shown_does_not_depend_on_the_prediction():
    cases = [_case(f"c{number}", [1, 3, 0]) for number in range(5)]
    for mask in (np.zeros((3, 8, 8), np.uint8), np.ones((3, 8, 8), np.uint8)):
        drawn = tensorboard_pictures.draw(cases, {number: pack(np.arange(3), mask) for number in (3, 1)}, channel=1)
        assert list(drawn) == ["c1/slice 2", "c3/slice 2"]
