import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.losses import pixel


def _compile(loss):
    """As one program, which takes less time than its operations one by one."""
    parameters = inspect.signature(loss).parameters.values()
    return jax.jit(loss, static_argnames=[p.name for p in parameters if p.kind is p.KEYWORD_ONLY])


bce = _compile(pixel.bce)
ce = _compile(pixel.ce)
focal = _compile(pixel.focal)
topk = _compile(pixel.topk)

LOG2 = np.log(2)


def _line(*values):
    """One sample, its pixels in a row, one class."""
    return jnp.asarray(values, jnp.float32).reshape(1, -1, 1)


def _logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


def test_bce_is_minus_the_log_of_the_right_probability():
    p = np.array([0.9, 0.2, 0.5])
    loss = bce(_line(*_logit(p)), _line(1, 1, 0))
    assert float(loss) == pytest.approx(-np.log([0.9, 0.2, 0.5]).mean(), rel=1e-6)


def test_bce_of_a_mask_in_between():
    loss = bce(_line(_logit(0.9)), _line(0.3))
    assert float(loss) == pytest.approx(-0.3 * np.log(0.9) - 0.7 * np.log(0.1), rel=1e-6)


def test_bce_takes_each_class_by_itself():
    logits = jnp.asarray([[[_logit(0.9), _logit(0.2)]]], jnp.float32)
    loss = bce(logits, jnp.asarray([[[1.0, 1.0]]]))
    assert float(loss) == pytest.approx(-(np.log(0.9) + np.log(0.2)) / 2, rel=1e-6)


@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_empty_and_full_masks_at_logit_zero(filled):
    logits = jnp.zeros((2, 4, 4, 1))
    mask = jnp.full_like(logits, filled)
    assert float(bce(logits, mask)) == pytest.approx(LOG2)
    assert float(ce(logits, mask)) == pytest.approx(LOG2)
    assert float(topk(logits, mask)) == pytest.approx(LOG2)
    assert float(focal(logits, mask)) == pytest.approx(LOG2 / 4)


def test_ce_of_equal_logits_is_the_log_of_the_number_of_classes():
    logits, mask = jnp.full((1, 3, 5), 7.0), jnp.zeros((1, 3, 5)).at[..., 2].set(1)
    assert float(ce(logits, mask)) == pytest.approx(np.log(5), rel=1e-6)


def test_ce_grows_linearly_with_a_wrong_logit():
    logits, mask = jnp.asarray([[[1e4, -1e4, 0.0]]]), jnp.asarray([[[0.0, 1.0, 0.0]]])
    assert float(ce(logits, mask)) == 2e4


def test_pixel_weights_are_those_of_a_weighted_mean():
    p = np.array([0.9, 0.2, 0.5])
    logits, mask, weights = _line(*_logit(p)), _line(1, 1, 1), _line(1, 3, 0)
    expected = -(np.log(0.9) + 3 * np.log(0.2)) / 4
    for loss in (bce, ce):
        for scale in (1, 100):
            assert float(loss(logits, mask, scale * weights)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.5, 0.75), (5.0, None), (0.0, 0.5)])
def test_focal_is_the_papers_formula(gamma, alpha):
    p, t = np.array([0.9, 0.2, 0.5, 0.01]), np.array([1, 1, 0, 0])
    right = np.where(t, p, 1 - p)
    balance = 1 if alpha is None else np.where(t, alpha, 1 - alpha)
    expected = (-balance * (1 - right) ** gamma * np.log(right)).mean()
    loss = focal(_line(*_logit(p)), _line(*t), gamma=gamma, alpha=alpha)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_focal_of_several_classes_weighs_background_and_the_others():
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    mask = jnp.asarray([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    loss = focal(jnp.asarray(np.log(probability), jnp.float32)[None], mask, alpha=0.8)
    expected = (-0.2 * 0.5**2 * np.log(0.5) - 0.8 * 0.7**2 * np.log(0.3)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


# With a full mask the cross-entropy of a pixel of probability p is -log p.
PROBABILITIES = np.array([[0.9, 0.1, 0.8, 0.3, 0.5], [0.2, 0.7, 0.6, 0.4, 0.95]])


@pytest.mark.parametrize(
    ("options", "hardest"),
    [
        ({}, [0.1]),
        ({"fraction": 0.39}, [0.1, 0.2, 0.3]),
        ({"fraction": 0.01}, [0.1]),
        ({"fraction": 1.0}, PROBABILITIES.reshape(-1)),
        ({"fraction": 0.4, "per_sample": True}, [0.1, 0.3, 0.2, 0.4]),
    ],
)
def test_topk_is_the_mean_over_the_hardest_pixels(options, hardest):
    logits = jnp.asarray(_logit(PROBABILITIES), jnp.float32)[..., None]
    loss = topk(logits, jnp.ones_like(logits), **options)
    assert float(loss) == pytest.approx(-np.log(hardest).mean(), rel=1e-5)


def test_topk_finds_the_hardest_by_their_weighted_loss():
    p, weights = [0.1, 0.5, 0.9], [0.2, 2.0, 1.0]  # weighted: 0.46, 1.39, 0.11
    loss = topk(_line(*_logit(p)), _line(1, 1, 1), _line(*weights), fraction=0.67)
    assert float(loss) == pytest.approx(-(0.2 * np.log(0.1) + 2 * np.log(0.5)) / 2.2, rel=1e-5)
