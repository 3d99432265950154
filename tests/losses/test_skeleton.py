import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from unet_jax import losses
from unet_jax.losses import skeleton

SURE = 1e4


def cldice(logits, mask, weights=None, **options):
    """With one erosion, which is enough for bars of three pixels, and compiles sooner."""
    options = {"iterations": 1} | options
    return float(jax.jit(lambda *given: skeleton.cldice(*given, **options))(logits, mask, weights))


def _picture(*rows):
    """[1, h, w, 1] of 0 and 1, a string a row."""
    return jnp.asarray([[float(pixel == "#") for pixel in row] for row in rows])[None, ..., None]


def _sure(mask):
    return SURE * (2 * mask - 1)


BAR = _picture(*[".........", *[".#######."] * 3, "........."])
CENTRE = _picture(*[".........", ".........", "..#####..", ".........", "........."])


def test_the_skeleton_of_a_bar_is_its_centre_line():
    """A cross leaves 1×5 of 3×7, which a square makes the bar again: so only the line itself is a ridge."""
    np.testing.assert_array_equal(skeleton.soft_skeleton(BAR, 1), CENTRE)
    np.testing.assert_array_equal(skeleton.soft_skeleton(BAR, 0), jnp.zeros_like(BAR))  # too few erosions


def test_a_line_is_its_own_skeleton_however_often_it_is_eroded():
    for iterations in (0, 4):
        np.testing.assert_array_equal(skeleton.soft_skeleton(CENTRE, iterations), CENTRE)


def test_a_faint_line_is_as_faint_in_the_skeleton():
    np.testing.assert_allclose(skeleton.soft_skeleton(0.25 * CENTRE, 3), 0.25 * CENTRE)


def test_the_centre_line_alone_has_all_precision_and_sensitivity():
    """Widths do not count: a bar for its line, and a line for its bar."""
    for predicted, mask in ((BAR, CENTRE), (CENTRE, BAR), (BAR, BAR)):
        assert cldice(_sure(predicted), mask, smooth=0.0) == pytest.approx(0)


def test_part_of_a_line_by_its_closed_form():
    """Of a line of eight pixels, six and two others are predicted: P is 6/8, S is 6/8; with smooth 7/9 each."""
    mask = _picture("..........", ".########.", "..........", "..........", "..........")
    predicted = _picture("..........", "...######.", "..........", "..........", "..##......")
    assert cldice(_sure(predicted), mask, smooth=0.0) == pytest.approx(1 - 6 / 8)
    assert cldice(_sure(predicted), mask) == pytest.approx(1 - 7 / 9)


def test_unequal_shares_are_averaged_harmonically():
    """Four of eight pixels and nothing else: P is 1, S is 1/2."""
    mask = _picture("..........", ".########.", "..........")
    half = _picture("..........", ".####.....", "..........")
    assert cldice(_sure(half), mask, smooth=0.0) == pytest.approx(1 - 2 * 1 * 0.5 / 1.5)


def test_a_prediction_that_fills_the_image_has_no_centre_line():
    """So none of it lies outside the mask: with `smooth`, P is 1, as S is. Without, P is 0."""
    everything = _sure(jnp.ones_like(BAR))
    assert cldice(everything, BAR) == 0
    assert cldice(everything, BAR, smooth=0.0) == 1


def test_samples_and_classes_are_regions():
    both = jnp.concatenate([BAR, CENTRE]), jnp.concatenate([BAR, BAR])
    none = _sure(jnp.zeros_like(BAR))
    logits = jnp.concatenate([_sure(both[0][:1]), none])
    assert cldice(logits, both[1], smooth=0.0, per_sample=True) == pytest.approx((0 + 1) / 2)
    assert cldice(logits, both[1], smooth=0.0) == pytest.approx(1 - 2 * 1 * 0.5 / 1.5)
    three = jnp.concatenate([1 - BAR, BAR, jnp.zeros_like(BAR)], -1)
    assert cldice(SURE * three, three) == pytest.approx(0)


def test_pixels_of_weight_0_change_nothing_and_others_count_by_it():
    rng = np.random.default_rng(0)
    logits, mask = jnp.asarray(rng.normal(size=BAR.shape), jnp.float32), BAR
    ignored = jnp.ones_like(BAR).at[:, :, :4].set(0.0)
    expected = cldice(logits, mask, ignored)
    assert cldice(logits.at[:, :, :4].add(3.0), mask.at[:, :, :4].set(1 - mask[:, :, :4]), ignored) == expected
    assert cldice(logits, mask, 2 * jnp.ones_like(BAR), smooth=2.0) == pytest.approx(cldice(logits, mask), rel=1e-6)


def test_gradients_are_finite_and_point_downhill():
    """For a bar, an empty and a full mask, each at logits of 0, of about 1 and of about 1e4."""
    masks = jnp.repeat(jnp.stack([BAR, jnp.zeros_like(BAR), jnp.ones_like(BAR)]), 3, axis=0)
    drawn = jnp.asarray(np.random.default_rng(1).normal(size=BAR.shape), jnp.float32)
    logits = jnp.tile(jnp.asarray([0.0, 1.0, 1e4])[:, None, None, None, None] * drawn, (3, 1, 1, 1, 1))
    loss = jax.jit(jax.vmap(jax.value_and_grad(lambda x, mask: skeleton.cldice(x, mask, iterations=1, smooth=0.0))))
    values, gradients = loss(logits, masks)
    assert np.isfinite(gradients).all()
    assert ((values >= 0) & (values <= 1)).all()
    down = 0.1 * gradients[1] / jnp.linalg.norm(gradients[1])
    assert float(loss(logits.at[1].add(-down), masks)[0][1]) < float(values[1])


@pytest.mark.parametrize("axis", [1, 2])
def test_the_gradient_of_the_largest_goes_to_the_largest(axis):
    """That of `jnp.max` over the three, stacked; one value at a time is the largest of random ones."""
    x, gradient = map(jnp.asarray, np.random.default_rng(axis).random((2, 2, 7, 5, 3), np.float32))

    def stacked(x):
        padded = jnp.pad(x, [(1, 1) if one == axis else (0, 0) for one in range(4)], constant_values=-jnp.inf)
        count = x.shape[axis]
        return jnp.stack([jax.lax.slice_in_dim(padded, k, k + count, axis=axis) for k in range(3)]).max(0)

    expected, pull_expected = jax.vjp(stacked, x)
    largest, pull = jax.vjp(lambda x: skeleton._largest_of_three(x, axis), x)
    np.testing.assert_array_equal(largest, expected)
    np.testing.assert_allclose(pull(gradient)[0], pull_expected(gradient)[0], atol=1e-6)


def test_equally_large_neighbours_share_the_gradient():
    x = jnp.array([3.0, 3.0, 1.0, 0.0, 2.0]).reshape(1, 5, 1)
    [shares] = jax.vjp(lambda x: skeleton._largest_of_three(x, 1), x)[1](jnp.ones_like(x))
    # Windows from the left: both 3s share the first and the second; the third is the second 3's; then 2's, twice.
    np.testing.assert_array_equal(shares.ravel(), [1.0, 2.0, 0.0, 0.0, 2.0])


def test_volumes_have_skeletons_as_well():
    """A beam of 3×3×7 in a volume is left as its axis of 5."""
    volume = jnp.zeros((1, 5, 5, 9, 1)).at[:, 1:4, 1:4, 1:8].set(1.0)
    axis = jnp.zeros_like(volume).at[:, 2, 2, 2:7].set(1.0)
    np.testing.assert_array_equal(skeleton.soft_skeleton(volume, 2), axis)


@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 7)], ids=str)
def test_it_is_the_papers_loss_written_with_scipy(shape):
    """Algorithms 1 and 2 of Shit et al. 2021, with the cross and the square of their code."""
    rng = np.random.default_rng(2)
    logits, mask = 3 * rng.normal(size=shape), (rng.random(shape) < 0.6).astype(float)
    cross, square = ndimage.generate_binary_structure(len(shape), 1), (3,) * len(shape)

    def skeleton_of(x):
        found = np.zeros_like(x)
        for _ in range(3):
            eroded = ndimage.grey_erosion(x, footprint=cross, mode="nearest")
            ridge = np.maximum(x - ndimage.grey_dilation(eroded, square, mode="nearest"), 0)
            found, x = found + np.maximum(ridge - found * ridge, 0), eroded
        return found

    predicted = 1 / (1 + np.exp(-logits))
    lines = [skeleton_of(x) for x in (predicted, mask)]
    precision, sensitivity = (
        (np.sum(line * other) + 1) / (np.sum(line) + 1) for line, other in zip(lines, (mask, predicted), strict=True)
    )
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    given = (jnp.asarray(x, jnp.float32)[None, ..., None] for x in (logits, mask))
    assert cldice(*given, iterations=2) == pytest.approx(expected, rel=1e-5)


def test_iterations_must_be_a_whole_number():
    losses.check_weights({"dice": 1.0, "cldice": {"weight": 0.5, "iterations": 5}})
    for value in (-1, 1.5, True):
        with pytest.raises(losses.InputError, match=r"cldice: iterations is .*; it must be a whole number, 0 or more"):
            losses.check_weights({"cldice": {"iterations": value}})
