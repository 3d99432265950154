import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nnunet_arrays import arrays

from unet_jax.losses import check_weights, deep_supervision_loss, level_weights, total_loss
from unet_jax.losses.nnunet import loss_weights


def _last(array):
    """[b, c, ...] → [b, ..., c]."""
    return jnp.asarray(np.moveaxis(array, 1, -1), jnp.float32)


def _one_hot(labels, classes):
    """Labels [b, 1, ...] as a mask; the ignored one, which is the last, as background."""
    return (
        jnp.asarray(np.eye(classes + 1)[np.asarray(labels)[:, 0]][..., :classes], jnp.float32)
        .at[..., 0]
        .add(np.asarray(labels)[:, 0] == classes)
    )


def _case(name):
    """The weights of nnU-Net's loss of that name, the mask, and where it is labelled."""
    golden, batch_dice = arrays("training"), name.endswith("bd1")
    if name.startswith("dc_bce"):
        regions = golden["losses/target_regions_ignore" if "ignore" in name else "losses/target_regions"]
        labelled = 1 - _last(regions[:, 3:]) if "ignore" in name else None
        weights = loss_weights(batch_dice=batch_dice, regions=3, ignored="ignore" in name)
        return weights, _last(regions[:, :3]), labelled
    labels = golden["losses/target_ignore" if "ignore" in name else "losses/target"]
    labelled = _last((labels != 4).astype(np.float32)) if "ignore" in name else None
    weights = loss_weights(batch_dice=batch_dice)
    if name.startswith("dc_topk"):
        weights = {"topk": {"fraction": 0.1}, "dice": weights["dice"]}
    if name == "topk10":
        weights = {"topk": {"fraction": 0.1}}
    return weights, _one_hot(labels, 4), labelled


LOSSES = ["dc_ce", "dc_ce_ignore", "dc_bce", "dc_bce_ignore", "dc_topk"]
NAMES = [f"{name}_bd{batch_dice}" for name in LOSSES for batch_dice in (0, 1)] + ["topk10"]


@pytest.fixture(scope="module")
def answers():
    def answer(name):
        weights, mask, labelled = _case(name)
        logits = _last(arrays("training")["losses/logits"])[..., : mask.shape[-1]]
        return jax.value_and_grad(lambda x: total_loss(x, mask, weights, labelled))(logits)

    return jax.jit(lambda: {name: answer(name) for name in NAMES})()


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_nnunets(answers, name):
    golden, (value, gradient) = arrays("training"), answers[name]
    # nnU-Net's Dice loss runs from -1 to 0, this project's from 0 to 1
    offset = 1 if "dice" in _case(name)[0] else 0
    assert float(value) - offset == pytest.approx(float(golden[f"losses/{name}"]), abs=1e-5)
    part = np.moveaxis(gradient, -1, 1).ravel()[:: int(golden["part"])]
    expected = golden[f"losses/{name}_grad"]
    np.testing.assert_allclose(part, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_what_a_mask_holds_where_it_is_not_labelled_changes_nothing():
    weights, mask, labelled = _case("dc_bce_ignore_bd1")
    logits = _last(arrays("training")["losses/logits"])[..., :3]
    other = jnp.where(labelled > 0, mask, 1 - mask)
    assert float(total_loss(logits, other, weights, labelled)) == float(total_loss(logits, mask, weights, labelled))


@pytest.mark.parametrize("regions", [0, 3])
def test_where_nothing_is_labelled_the_loss_is_0(regions):
    weights = loss_weights(batch_dice=True, regions=regions, ignored=True)
    logits = _last(arrays("training")["losses/logits"])
    assert float(total_loss(logits, jnp.zeros(logits.shape), weights, jnp.zeros((*logits.shape[:-1], 1)))) == 0


@pytest.mark.parametrize("levels", range(2, 9))
def test_the_weights_of_deep_supervision_are_nnunets(levels):
    np.testing.assert_allclose(level_weights(levels), arrays("training")[f"levels/{levels}"], rtol=1e-12)


def test_targets_of_lower_resolutions_are_nnunets():
    """Logits that are certain of nnU-Net's own targets cost nothing at the levels that count."""
    golden = arrays("training")
    targets = [_one_hot(golden[f"steps/target{level}"], 3) for level in range(3)]
    logits = [1e4 * (2 * target - 1) for target in targets]
    assert float(deep_supervision_loss(logits, targets[0], {"ce": 1.0})) == 0
    logits[1] = 1e4 * (2 * jnp.roll(targets[1], 1, axis=2) - 1)
    assert float(deep_supervision_loss(logits, targets[0], {"ce": 1.0})) > 1


@pytest.mark.parametrize(("old", "new"), [(82, 41), (94, 47), (122, 61), (168, 10)])
def test_the_nearest_pixel_is_exact(old, new):
    """Pixel i of the smaller has its centre at (i + 1/2) old / new; sizes at which float32 falls short of a whole."""
    # bce at a logit of 0 is log 2 for any mask; a logit of ±1e4 that is right costs nothing
    mask = np.random.default_rng(0).integers(2, size=(1, old, 1)).astype(np.float32)
    nearest = mask[:, [(2 * i + 1) * old // (2 * new) for i in range(new)]]
    levels = (jnp.asarray(1e4 * (2 * mask - 1)), jnp.asarray(1e4 * (2 * nearest - 1)), jnp.zeros((1, 1, 1)))
    assert float(deep_supervision_loss(levels, jnp.asarray(mask), {"bce": 1.0})) == 0


def test_a_config_may_have_nnunets_losses():
    check_weights(loss_weights(batch_dice=True), classes=3)
    check_weights(loss_weights(batch_dice=False, regions=3, ignored=True), classes=3, overlap=True)
