import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unet_jax import models
from unet_jax.runtime import mesh as sharding
from unet_jax.training import optim
from unet_jax.training import step as steps

MESH = sharding.data_mesh()
SIZE = 8
OFF = {"probability": 0.0, "range": (1.0, 1.0)}
NO_AUGMENTATION = {
    "flip_rows": 0.0,
    "flip_columns": 0.0,
    "transpose": 0.0,
    "rot90": 0.0,
    "per_channel": False,
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
    graphdef, params, batch_stats = split_model(model)
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


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


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
    loss, augmentation = {"bce": 1.0, "dice": 1.0}, NO_AUGMENTATION | {"flip_columns": 0.5}
    return _start(model, optimizer, loss_weights=loss, augment_settings=augmentation)


def test_one_step_by_hand(line):
    step, state = line
    batch = _batch()
    x, m, z = _by_hand(batch)
    error = _sigmoid(z) - m
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


class Lines(Line):
    """Logits of background, which are 0, and of two classes, one line the other's opposite."""

    def __call__(self, image):
        line = super().__call__(image)
        return jnp.concatenate([jnp.zeros_like(line), line, -line], -1)


def _softmax(z):
    exponentials = np.exp([np.zeros_like(z), z, -z])
    return exponentials / exponentials.sum(0)


def _of_classes(batch):
    x = np.asarray(batch["image"])[..., 0]
    return np.select([x > 170, x > 90], [1, 2], 0).astype(np.uint8)


def test_one_step_of_several_classes_by_hand():
    step, state = _start(Lines(), optax.sgd(0.5), loss_weights={"ce": 1.0}, classes=2)
    batch = _batch()
    mask = _of_classes(batch)
    x, _, z = _by_hand(batch)
    probability = _softmax(z)
    truth = np.stack([mask == number for number in range(3)])
    _, logged = step(_copy(state), batch | sharding.global_batch({"mask": mask}, MESH))
    assert logged["loss"] == pytest.approx(-np.log((probability * truth).sum(0)).mean(), rel=1e-5)
    error = probability - truth
    gradient = (error[1] - error[2]) * x, error[1] - error[2]
    assert logged["gradient_norm"] == pytest.approx(np.hypot(*(of.mean() for of in gradient)), rel=1e-5)
    likeliest = probability.argmax(0)
    expected = np.mean([_dice(likeliest == number, truth[number]) for number in (1, 2)])
    assert logged["dice"] == pytest.approx(expected, rel=1e-6)


def test_what_augmentation_brings_in_is_background(monkeypatch):
    """Where no class is left after augmentation, a network that is sure of the background is right."""
    monkeypatch.setattr(steps, "augment", lambda key, image, targets, settings: (image, jnp.zeros_like(targets)))
    model = Lines(slope=0.0, offset=0.0)
    step, state = _start(model, optax.sgd(0.0), loss_weights={"ce": 1.0}, classes=2)
    assert step(state, _batch())[1]["loss"] == pytest.approx(np.log(3), rel=1e-6)


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


def test_dropout_is_a_function_of_seed_and_step():
    model = models.build("tutorial", 3, 1, nnx.Rngs(params=0), width=2, depth=1, dropout=0.5)
    step, state = _start(model, optax.sgd(0.5))
    losses = []
    for number in (0, 1, 0):
        again = _copy(state.replace(step=jax.device_put(jnp.int32(number), sharding.replicated(MESH))))
        losses.append(float(step(again, _batch())[1]["loss"]))
    assert losses[0] == losses[2] != losses[1]


def test_pixel_weights_weigh_the_loss(line):
    step, state = line
    weights = np.random.default_rng(5).uniform(0.5, 2, (4, SIZE, SIZE)).astype(np.float32)
    batch = _batch()
    _, m, z = _by_hand(batch)
    _, logged = step(_copy(state), batch | sharding.global_batch({"weights": weights}, MESH))
    expected = np.average(np.logaddexp(0, z) - z * m, weights=weights)
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)


def test_pixel_weights_move_with_the_image():
    """Weights that single out the bright pixels still do so after flips, so the loss is theirs alone."""
    step, state = _start(Line(), optax.sgd(0.5), augment_settings=NO_AUGMENTATION | {"flip_columns": 0.5})
    batch = _batch()
    _, m, z = _by_hand(batch)
    weights = sharding.global_batch({"weights": np.asarray(m, np.float32)}, MESH)
    _, logged = step(state, batch | weights)
    assert logged["loss"] == pytest.approx(np.average(np.logaddexp(0, z) - z * m, weights=m), rel=1e-5)


def test_a_volume_costs_what_its_slices_cost(line):
    step, state = line
    batch = _batch()
    _, flat = step(_copy(state), batch)
    volumes = {key: np.asarray(x).reshape(2, 2, *x.shape[1:]) for key, x in batch.items()}
    _, deep = step(_copy(state), sharding.global_batch(volumes, MESH))
    for key, value in flat.items():
        assert deep[key] == pytest.approx(float(value), rel=1e-5)


def test_batch_statistics_move_in_training_and_rule_afterwards():
    """New running value = .9 old + .1 the batch's; a network that is not training normalises by them alone."""
    step, state = _start(Normalised(), optax.sgd(0.0))
    batch = _batch()
    x = np.asarray(batch["image"])[..., 0] / 255
    state, _ = step(state, batch)
    statistics = state.batch_stats["norm"]
    np.testing.assert_allclose(statistics["mean"], [0.1 * x.mean()], rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], [0.9 + 0.1 * x.var()], rtol=1e-5)

    probability = steps.make_probability_step(split_model(Normalised())[0], image_size=SIZE)
    found = probability(state.params, state.batch_stats, batch["image"])
    z = (x - 0.1 * x.mean()) / np.sqrt(0.9 + 0.1 * x.var() + 1e-5)
    np.testing.assert_allclose(found, _sigmoid(z), rtol=1e-5)


def test_the_average_of_the_weights_by_hand():
    """After n steps it keeps min(decay, (1 + n) / (10 + n)): a tenth of the first weights, 2/11, then the decay."""
    graphdef, params, batch_stats = split_model(Normalised())
    optimizer = optax.sgd(0.5)
    state = jax.device_put(steps.init_state(params, batch_stats, optimizer, averaged=True), sharding.replicated(MESH))
    options = {"loss_weights": {"bce": 1.0}, "augment_settings": NO_AUGMENTATION, "seed": 0, "ema_decay": 0.2}
    step = steps.make_train_step(graphdef, optimizer, image_size=SIZE, **options)
    plain, without = _start(Normalised(), optimizer)
    mean = jax.tree.map(np.array, {"params": params, "batch_stats": batch_stats})
    for number, kept in enumerate((1 / 10, 2 / 11, 0.2, 0.2)):
        state, _ = step(state, _batch(number))
        without, _ = plain(without, _batch(number))
        new = {"params": state.params, "batch_stats": state.batch_stats}
        mean = jax.tree.map(lambda old, one, kept=kept: kept * old + (1 - kept) * np.asarray(one), mean, new)
    jax.tree.map(lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-5), state.average, mean)
    assert state.weights == (state.average["params"], state.average["batch_stats"])
    # The steps themselves are those without an average.
    jax.tree.map(np.testing.assert_array_equal, state.params, without.params)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, without.batch_stats)
    assert (without.average, without.weights) == ({}, (without.params, without.batch_stats))


def _probability(image, model=None):
    graphdef, params, batch_stats = split_model(model or Line())
    return steps.make_probability_step(graphdef, image_size=SIZE)(params, batch_stats, jnp.asarray(image))


@pytest.mark.parametrize("shape", [(3, 8, 8, 3), (3, 6, 8, 3), (3, 8, 5, 3), (2, 4, 6, 8, 3)])
def test_probabilities_come_in_the_images_own_geometry(shape):
    """Nothing is resized here, only padded to 8×8 and cut again; the last are volumes."""
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = _probability(image)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, _sigmoid(2 * (image[..., 0] / 255) - 0.5), rtol=1e-5)


def test_probabilities_have_the_images_size_whatever_the_network_sees():
    """A bright half: its edge comes back where it was, though the network saw 8×8 pixels."""
    image = np.zeros((1, 20, 32, 1), np.float32)
    image[:, :, 16:] = 1
    found = _probability(image, Line(slope=20.0, offset=-10.0))
    assert found.shape == (1, 20, 32)
    np.testing.assert_array_equal(found[0, 4:-4] >= 0.5, image[0, 4:-4, :, 0] >= 0.5)


def test_probabilities_of_several_classes_take_the_place_of_channels():
    image = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    found = _probability(image, Lines())
    expected = _softmax(2 * (image[..., 0] / 255) - 0.5)
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), rtol=1e-5)


def test_networks_have_a_channel_for_background_where_classes_exclude_each_other():
    assert [steps.logit_channels(classes) for classes in (1, 2, 3)] == [1, 3, 4]


def test_probabilities_of_bfloat16_logits_are_float32():
    class Half(Line):
        def __call__(self, image):
            return super().__call__(image).astype(jnp.bfloat16)

    found = _probability(np.full((1, 8, 8, 1), 255, np.uint8), Half())
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, _sigmoid(1.5), rtol=1e-6)


class Valid(nnx.Module):
    """The first sequence less three pixels at every border, from images that a network of two poolings takes."""

    divisor, margin = 4, 3

    def __call__(self, image):
        assert all((n - self.margin) % self.divisor == 0 for n in image.shape[1:-1])
        inside = (slice(self.margin, -self.margin),) * (image.ndim - 2)
        return image[(slice(None), *inside, slice(1))]


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 9, 12, 1), (1, 6, 8, 10, 1)])
def test_a_network_without_padding_answers_every_pixel(shape):
    """Each logit belongs to the pixel in the middle of what it saw, so these are the image itself."""
    image = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    np.testing.assert_array_equal(steps.forward(Valid(), image), image[..., :1])


def test_what_stands_around_the_image_is_its_mirror_image():
    class Outside(Valid):
        def __call__(self, image):
            return image[..., :1][:, : -2 * self.margin]  # what lies three pixels up and to the left

    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 1)), jnp.float32)
    seen = steps.forward(Outside(), image)[0, :, :, 0]
    np.testing.assert_array_equal(seen[:4, 3:], image[0, 3::-1, :5, 0])


def test_the_dice_of_a_network_with_deep_supervision_is_the_finest_levels(line):
    class Deep(Line):
        def __call__(self, image):
            finest = super().__call__(image)
            return finest, -finest[:, ::2, ::2], -finest[:, ::4, ::4]

    step, state = _start(Deep(), optax.sgd(0.5))
    _, m, z = _by_hand(_batch())
    assert step(state, _batch())[1]["dice"] == pytest.approx(_dice(z > 0, m), rel=1e-6)


class Exploding(Line):
    """A line whose loss is finite where the gradient of its slope is not: of the square root at 0."""

    def __call__(self, image):
        return super().__call__(image) + jnp.sqrt(0 * self.slope[...])


def _float_batch(fill=None):
    image = np.random.default_rng(0).random((4, SIZE, SIZE, 3), np.float32)
    if fill is not None:
        image[2, 3, 4, 1] = fill
    return sharding.global_batch({"image": image, "mask": (image[..., 0] > 0.5).astype(np.uint8)}, MESH)


@pytest.mark.parametrize(
    ("model", "slope", "fill", "fault"),
    [
        (Line, 2.0, None, ""),
        (Line, 2.0, np.nan, "image"),  # in a channel that the line does not look at
        (Line, 2.0, -np.inf, "image"),
        (Line, np.inf, None, "loss"),
        (Exploding, 2.0, None, "gradient"),
    ],
)
def test_what_is_not_finite_is_named_and_can_be_skipped(model, slope, fill, fault):
    step, state = _start(model(), optax.adam(0.5), skip_nonfinite=True)
    state.params["slope"] = jax.device_put(jnp.float32(slope), sharding.replicated(MESH))
    before = jax.tree.map(np.asarray, _copy(state))
    after, logged = step(state, _float_batch(fill))
    assert steps.FAULTS[int(logged["fault"])] == fault
    assert int(after.step) == 1
    assert int(after.watch["skipped"]) == int(logged["skipped"]) == (fault != "")
    unchanged = jax.tree.map(np.array_equal, *(_without_counts(one) for one in (before, after)))
    assert all(jax.tree.leaves(unchanged)) is (fault != "")


def _without_counts(state):
    return state.params, state.opt_state, state.batch_stats, state.totals, state.watch["usual_norm"]


def test_a_skipped_step_leaves_the_next_as_if_it_had_not_been():
    """The optimiser's own count of steps included."""
    batch = _float_batch()
    step, state = _start(Line(), optax.adam(0.5), skip_nonfinite=True)
    skipped, _ = step(_copy(state), _float_batch(np.nan))
    skipped, _ = step(skipped, batch)
    straight, _ = step(_copy(state), batch)
    jax.tree.map(np.testing.assert_array_equal, skipped.params, straight.params)
    jax.tree.map(np.testing.assert_array_equal, skipped.opt_state, straight.opt_state)


def test_spikes_are_counted_against_the_running_mean_of_the_norm():
    """Where all is predicted to be tumour and none is, the gradient of a line is the mean intensity, and 1."""
    step, state = _start(Line(), optax.sgd(0.0), spike_factor=3.0)
    factors, norms, counted = [1, 1, 1.5, 5, 1, 40, 0.5, 2], [], []
    usual, spikes, expected = None, 0, []
    for factor in factors:
        image = np.zeros((4, SIZE, SIZE, 3), np.float32)
        image[..., 0] = factor * 100
        batch = sharding.global_batch({"image": image, "mask": np.zeros((4, SIZE, SIZE), np.uint8)}, MESH)
        state, logged = step(state, batch)
        norms.append(float(logged["gradient_norm"]))
        counted.append(int(logged["spikes"]))
        usual = norms[-1] if usual is None else usual
        spikes += norms[-1] > 3 * usual
        usual += steps.NORM_SHARE * (min(norms[-1], 3 * usual) - usual)
        expected.append(spikes)
    assert counted == expected == [0, 0, 0, 1, 1, 2, 2, 2]
    assert float(state.watch["usual_norm"]) == pytest.approx(usual, rel=1e-5)


def test_leaves_that_are_not_finite_are_named():
    tree = {"a": {"kernel": np.array([1, np.nan], np.float32)}, "b": np.float32(3), "step": np.int32(1)}
    assert steps.nonfinite(tree) == ["a/kernel"]
    assert steps.nonfinite({"b": np.array([0, -np.inf], np.float32)}) == ["b"]
    assert steps.nonfinite({"b": np.float32(0)}) == []
