import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.losses import region


def _compile(loss):
    """As one program, which takes less time than its operations one by one."""
    parameters = inspect.signature(loss).parameters.values()
    return jax.jit(loss, static_argnames=[p.name for p in parameters if p.kind is p.KEYWORD_ONLY])


dice = _compile(region.dice)
jaccard = _compile(region.jaccard)
tversky = _compile(region.tversky)
focal_tversky = _compile(region.focal_tversky)
log_cosh_dice = _compile(region.log_cosh_dice)
lovasz = _compile(region.lovasz)

# Two of four pixels, each predicted at one half: TP = FP = FN = 1.
HALVES = jnp.zeros((1, 2, 2, 1))
TWO_OF_FOUR = jnp.asarray([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)


@pytest.mark.parametrize(
    ("loss", "options", "expected"),
    [
        (dice, {}, 1 - (2 + 1) / (4 + 1)),
        (dice, {"smooth": 0.0}, 1 - 2 / 4),
        (jaccard, {}, 1 - (1 + 1) / (3 + 1)),
        (jaccard, {"smooth": 0.0}, 1 - 1 / 3),
        (tversky, {}, 1 - (1 + 1) / (1 + 0.3 + 0.7 + 1)),
        (tversky, {"alpha": 0.1, "beta": 0.4, "smooth": 0.0}, 1 - 1 / (1 + 0.1 + 0.4)),
        (focal_tversky, {}, (1 / 3) ** 0.75),
        (focal_tversky, {"gamma": 2.0, "alpha": 0.1, "beta": 0.4, "smooth": 0.0}, (1 / 3) ** 0.5),
        (log_cosh_dice, {}, np.log(np.cosh(0.4))),
        (lovasz, {}, 1.0),  # every hinge error is 1, and so is the Jaccard loss of all wrong
    ],
)
def test_two_of_four_pixels(loss, options, expected):
    assert float(loss(HALVES, TWO_OF_FOUR, **options)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [dice, jaccard, tversky])
def test_false_positives_and_false_negatives_are_told_apart(loss):
    # Two of four pixels predicted for certain, one of them in the mask of three: TP 1, FP 1, FN 2.
    logits = jnp.asarray([1e4, 1e4, -1e4, -1e4]).reshape(1, 4, 1)
    mask = jnp.asarray([1.0, 0.0, 1.0, 1.0]).reshape(1, 4, 1)
    expected = {dice: 1 - 2 / 5, jaccard: 1 - 1 / 4, tversky: 1 - 1 / (1 + 0.3 * 1 + 0.7 * 2)}
    assert float(loss(logits, mask, smooth=0.0)) == pytest.approx(expected[loss], rel=1e-6)


def test_empty_and_full_masks():
    # Sixteen pixels at one half: Σ p = 8.
    logits, empty, full = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1))
    assert float(dice(logits, empty)) == pytest.approx(1 - 1 / (8 + 1))
    assert float(dice(logits, full)) == pytest.approx(1 - (16 + 1) / (24 + 1))
    assert float(jaccard(logits, empty)) == pytest.approx(1 - 1 / (8 + 1))
    assert float(jaccard(logits, full)) == pytest.approx(1 - (8 + 1) / (16 + 1))
    assert float(tversky(logits, empty)) == pytest.approx(1 - 1 / (0.3 * 8 + 1))
    assert float(tversky(logits, full)) == pytest.approx(1 - (8 + 1) / (8 + 0.7 * 8 + 1))
    assert float(dice(logits, empty, smooth=0.0)) == pytest.approx(1)


def test_a_pixel_of_weight_three_counts_as_three():
    logits, mask = jnp.asarray([[1.0, -0.5, 2.0]]), jnp.asarray([[1.0, 0.0, 0.0]])
    repeats = np.array([1, 3, 2])
    for loss in (dice, jaccard, tversky, focal_tversky, log_cosh_dice, lovasz):
        weighted = loss(logits[..., None], mask[..., None], jnp.asarray(repeats, jnp.float32)[None, :, None])
        repeated = loss(*(jnp.repeat(x, repeats, 1)[..., None] for x in (logits, mask)))
        assert float(weighted) == pytest.approx(float(repeated), rel=1e-6), loss.__name__


def test_samples_are_pooled_unless_asked_for():
    # First sample: TP 1, FP 3; second: TP 1 alone.
    logits = jnp.asarray([[1e4, 1e4, 1e4, 1e4], [1e4, -1e4, -1e4, -1e4]])[..., None]
    mask = jnp.asarray([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])[..., None]
    assert float(dice(logits, mask, smooth=0.0)) == pytest.approx(1 - 4 / 7)
    assert float(dice(logits, mask, smooth=0.0, per_sample=True)) == pytest.approx((1 - 2 / 5) / 2)
    # Errors at ±1 are 2 or 0, at which the Lovász hinge is twice the Jaccard loss.
    assert float(lovasz(logits / 1e4, mask)) == pytest.approx(2 * 3 / 5)
    assert float(lovasz(logits / 1e4, mask, per_sample=True)) == pytest.approx(2 * (3 / 4) / 2)


def test_the_background_is_a_region_only_where_asked_for():
    # Labels 0, 1, 2, 2 answered as 0, 0, 2, 1: class 0 has TP 1 FP 1, class 1 FP 1 FN 1, class 2 TP 1 FN 1.
    logits = 1e4 * jnp.eye(3)[jnp.asarray([[0, 0, 2, 1]])]
    mask = jnp.eye(3)[jnp.asarray([[0, 1, 2, 2]])]
    assert float(dice(logits, mask, smooth=0.0)) == pytest.approx((1 + 1 / 3) / 2)
    assert float(dice(logits, mask, smooth=0.0, background=True)) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


def test_log_cosh_keeps_the_digits_of_a_small_loss():
    # Near 0, log cosh x is x² / 2.
    logits, mask = jnp.full((1, 64, 1), 8.0), jnp.ones((1, 64, 1))
    small = float(dice(logits, mask))
    assert 1e-5 < small < 1e-3
    assert float(log_cosh_dice(logits, mask)) == pytest.approx(small**2 / 2, rel=1e-4)


def _jaccard_loss(predicted, mask, weights):
    union = np.sum(weights * (predicted | mask))
    return 1 - np.sum(weights * (predicted & mask)) / union if union else 0.0


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_of_hard_answers_is_the_jaccard_loss(seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(4, size=(2, 3, 4, 1))
    answer, truth = rng.integers(3, size=(2, 2, 3, 4))
    predicted, mask = np.eye(3, dtype=int)[answer], np.eye(3, dtype=int)[truth]
    arrays = [jnp.asarray(x, jnp.float32) for x in (1e4 * predicted, mask, weights)]
    present = [k for k in range(3) if np.any(weights * mask[..., k : k + 1])]
    expected = np.mean(
        [_jaccard_loss(*(x[..., None] for x in (predicted[..., k], mask[..., k])), weights) for k in present]
    )
    assert float(lovasz(*arrays)) == pytest.approx(expected, abs=1e-6)
    # Hinge errors at logits of ±1 are 2 where the answer is wrong and 0 where it is right.
    hinge = lovasz(*(jnp.asarray(x, jnp.float32) for x in (2 * predicted[..., :1] - 1, mask[..., :1], weights)))
    assert float(hinge) == pytest.approx(2 * _jaccard_loss(predicted[..., :1], mask[..., :1], weights), abs=1e-6)


def test_lovasz_hinge_of_empty_and_full_masks():
    logits = jnp.asarray([0.5, -3.0, 1.5, -0.25]).reshape(1, 4, 1)
    # In an empty mask one false pixel is as bad as all, so the worst counts; in a full one all count alike.
    assert float(lovasz(logits, jnp.zeros_like(logits))) == pytest.approx(1 + 1.5)
    assert float(lovasz(logits, jnp.ones_like(logits))) == pytest.approx((0.5 + 4 + 0 + 1.25) / 4)


def test_lovasz_softmax_leaves_out_classes_that_the_mask_lacks():
    logits, mask = jnp.log(jnp.asarray([[[0.5, 0.2, 0.3]]])), jnp.asarray([[[1.0, 0.0, 0.0]]])
    assert float(lovasz(logits, mask)) == pytest.approx(0.5)


def test_float32_sums_hold_on_large_batches():
    # 2²³ pixels at one half, a quarter of them in the mask: 1 - 2 (1/8) / (1/2 + 1/4).
    mask = jnp.zeros((2, 2**11, 2**11, 1)).at[:, ::2, ::2].set(1)
    loss = dice(jnp.zeros_like(mask), mask)
    assert float(loss) == pytest.approx(2 / 3, rel=1e-5)


def test_with_sigmoid_each_class_is_a_region_of_its_own():
    """The mean over classes of the loss of one class, however they overlap."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.standard_normal((2, 3, 4, 3)), jnp.float32)
    mask = jnp.asarray(rng.integers(2, size=(2, 3, 4, 3)), jnp.float32)
    for loss in (dice, jaccard, tversky, focal_tversky, log_cosh_dice):
        singly = [float(loss(logits[..., n : n + 1], mask[..., n : n + 1])) for n in range(3)]
        assert float(loss(logits, mask, sigmoid=True)) == pytest.approx(np.mean(singly), rel=1e-6), loss
