import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unet_jax import models, optim, sharding, steps

MESH = sharding.data_mesh()
SIZE = 8
OFF = {"probability": 0.0, "range": (1.0, 1.0)}
NO_AUGMENTATION = {
    "flip": 0.0,
    "transpose": 0.0,
    "rot90": 0.0,
    "affine": {"probability": 0.0, "shift": 0.0, "scale": 0.0, "rotate": 0.0},
    "brightness": OFF,
    "contrast": OFF,
    "gamma": OFF,
}


class Line(nnx.Module):
    """Logits that are a line through the first sequence's intensity: small enough to work out by hand."""

    def __init__(self, slope=2.0, offset=-0.5):
        self.slope, self.offset = nnx.Param(jnp.float32(slope)), nnx.Param(jnp.float32(offset))

    def __call__(self, image):
        return self.slope[...] * image[..., :1] + self.offset[...]


class Normalised(nnx.Module):
    """Logits that are the first sequence's intensity, batch-normalised."""

    def __init__(self):
        self.norm = nnx.BatchNorm(1, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))

    def __call__(self, image):
        return self.norm(image[..., :1])


def _start(model, optimizer, **options):
    """The compiled step and the state before it, as training makes them."""
    graphdef, params, batch_stats = steps.split_model(model)
    settings = {"loss_weights": {"bce": 1.0}, "augment_settings": NO_AUGMENTATION, "seed": 0} | options
    state = jax.device_put(steps.init_state(params, batch_stats, optimizer), sharding.replicated(MESH))
    return steps.make_train_step(graphdef, optimizer, image_size=SIZE, **settings), state


def _copy(state):
    """To be used up in the place of `state`."""
    return jax.tree.map(jnp.copy, state)


def _batch(seed=0):
    """Random intensities, and tumour where the first sequence is bright."""
    image = np.random.default_rng(seed).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    return sharding.global_batch({"image": image, "mask": (image[..., 0] > 128).astype(np.uint8)}, MESH)


def _by_hand(batch):
    """Intensity, mask and logits of `Line` for this batch, in float64."""
    x, m = np.asarray(batch["image"])[..., 0] / 255, np.asarray(batch["mask"], np.float64)
    return x, m, 2 * x - 0.5


def _dice(predicted, mask):
    return 2 * (predicted * mask).sum() / (predicted.sum() + mask.sum())


@pytest.fixture(scope="module")
def line():
    return _start(Line(), optax.sgd(0.5))


@pytest.fixture(scope="module")
def unet():
    model = models.build("tutorial", 3, 1, nnx.Rngs(params=0), width=4, depth=1, norm="batch")
    schedule = optim.learning_rate_schedule("constant", peak=0.03, warmup_steps=2, steps_per_epoch=5, total_steps=20)
    optimizer = optim.optimizer("adam", schedule, weight_decay=0.0, clip_norm=None)
    loss, augmentation = {"bce": 1.0, "dice": 1.0}, NO_AUGMENTATION | {"flip": 0.5}
    return _start(model, optimizer, loss_weights=loss, augment_settings=augmentation)


def test_one_step_by_hand(line):
    step, state = line
    batch = _batch()
    x, m, z = _by_hand(batch)
    error = 1 / (1 + np.exp(-z)) - m
    gradient = {"slope": (error * x).mean(), "offset": error.mean()}
    state, logged = step(_copy(state), batch)
    assert int(state.step) == 1
    assert state.params["slope"] == pytest.approx(2 - 0.5 * gradient["slope"], rel=1e-5)
    assert state.params["offset"] == pytest.approx(-0.5 - 0.5 * gradient["offset"], rel=1e-5)
    assert logged["loss"] == pytest.approx((np.logaddexp(0, z) - z * m).mean(), rel=1e-5)
    assert logged["dice"] == pytest.approx(_dice(z > 0, m), rel=1e-6)
    assert logged["gradient_norm"] == pytest.approx(np.hypot(*gradient.values()), rel=1e-5)


@pytest.mark.parametrize(("tumour", "offset", "dice"), [(0, -9.0, 1.0), (1, -9.0, 0.0), (0, 9.0, 0.0), (1, 9.0, 1.0)])
def test_dice_of_empty_and_full_masks(line, tumour, offset, dice):
    step, state = line
    state = _copy(state)
    state.params["offset"] = jax.device_put(jnp.float32(offset), sharding.replicated(MESH))
    batch = _batch() | sharding.global_batch({"mask": np.full((4, SIZE, SIZE), tumour, np.uint8)}, MESH)
    assert step(state, batch)[1]["dice"] == dice


def test_totals_are_the_sums_of_what_was_logged(line):
    step, state = line
    state, records = _copy(state), []
    for seed in range(3):
        state, logged = step(state, _batch(seed))
        records.append(logged)
    assert int(state.totals["steps"]) == 3
    for key in ("loss", "dice"):
        assert state.totals[key] == pytest.approx(sum(float(record[key]) for record in records), rel=1e-6)


def test_the_state_that_was_passed_in_is_used_up(line):
    step, state = line
    used = _copy(state)
    step(used, _batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(used))


def test_a_network_learns_and_its_step_is_compiled_once(unet):
    """Epochs begin with new totals, as in training."""
    step, state = unet
    state, losses = _copy(state), []
    for number in range(40):
        if number % 5 == 0:
            state = state.replace(totals=jax.device_put(steps.zero_totals(), sharding.replicated(MESH)))
        state, logged = step(state, _batch(number % 3))
        losses.append(float(logged["loss"]))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert int(state.totals["steps"]) == 5
    assert step._cache_size() == 1


def test_a_run_can_be_repeated_and_taken_up_in_the_middle_to_the_bit(unet):
    step, start = unet
    whole, middle = _copy(start), None
    for number in range(4):
        if number == 2:
            middle = _copy(whole)
        whole, _ = step(whole, _batch(number))
    for number in (2, 3):
        middle, _ = step(middle, _batch(number))
    jax.tree.map(np.testing.assert_array_equal, middle, whole)


def test_what_is_random_is_a_function_of_seed_and_step():
    always = {"probability": 1.0, "range": (0.5, 1.5)}
    augmentation = NO_AUGMENTATION | {"brightness": always}
    losses = {}
    for seed in (0, 1):
        step, state = _start(Line(), optax.sgd(0.5), augment_settings=augmentation, seed=seed)
        for number in (0, 1, 2, 2):
            again = _copy(state.replace(step=jax.device_put(jnp.int32(number), sharding.replicated(MESH))))
            loss = float(step(again, _batch())[1]["loss"])
            assert losses.setdefault((seed, number), loss) == loss
    assert len(set(losses.values())) == 6


def test_batch_statistics_move_in_training_and_rule_in_segmenting():
    """New running value = .9 old + .1 the batch's; a network that is not training normalises by them alone."""
    model = Normalised()
    step, state = _start(model, optax.sgd(0.0))
    batch = _batch()
    x = np.asarray(batch["image"])[..., 0] / 255
    state, _ = step(state, batch)
    statistics = state.batch_stats["norm"]
    np.testing.assert_allclose(statistics["mean"], [0.1 * x.mean()], rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], [0.9 + 0.1 * x.var()], rtol=1e-5)

    segment = steps.make_segment_step(steps.split_model(model)[0], image_size=SIZE, threshold=0.5)
    mask = segment(state.params, state.batch_stats, batch["image"])
    np.testing.assert_array_equal(mask, x >= 0.1 * x.mean())


def _segment(image, *, threshold, slope=1.0, offset=0.0):
    graphdef, params, batch_stats = steps.split_model(Line(slope, offset))
    return steps.make_segment_step(graphdef, image_size=SIZE, threshold=threshold)(params, batch_stats, image)


@pytest.mark.parametrize(("height", "width", "threshold"), [(8, 8, 0.6), (6, 8, 0.55), (8, 5, 0.7)])
def test_a_pixel_is_tumour_from_the_threshold_on_in_the_images_own_geometry(height, width, threshold):
    image = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
    mask = _segment(jnp.asarray(image), threshold=threshold)
    assert mask.dtype == jnp.uint8
    probability = 1 / (1 + np.exp(-(image[..., 0] / 255)))
    np.testing.assert_array_equal(mask, probability >= threshold)


@pytest.mark.parametrize(("threshold", "found"), [(0.5, 1), (0.5001, 0)])
def test_a_probability_of_just_the_threshold_is_tumour(threshold, found):
    mask = _segment(jnp.zeros((1, 8, 8, 1)), threshold=threshold, slope=0.0)
    assert (mask == found).all()


def test_the_mask_has_the_images_size_whatever_the_network_sees():
    """A bright half: its edge comes back where it was, though the network saw 8×8 pixels."""
    image = np.zeros((1, 20, 32, 1), np.float32)
    image[:, :, 16:] = 1
    mask = _segment(jnp.asarray(image), threshold=0.5, slope=20.0, offset=-10.0)
    np.testing.assert_array_equal(mask[0, 4:-4], image[0, 4:-4, :, 0])
