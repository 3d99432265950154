import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from lines import Line, Lines, Normalised, sigmoid, softmax

from unet_jax import metrics, models
from unet_jax.data import labels
from unet_jax.data.case import Case
from unet_jax.inference.network import make_probability_step
from unet_jax.inference.segment import segment_cases
from unet_jax.inference.settings import SegmentSettings
from unet_jax.models.functional import split_model
from unet_jax.runtime import mesh
from unet_jax.training import optim, step_inputs
from unet_jax.training import step as steps
from unet_jax.training.patch_augment.settings import AugmentSettings, Chance
from unet_jax.training.step_settings import StepSettings

MESH = mesh.data_mesh()
SIZE = 8
RATE = optax.constant_schedule(0.5)
OFF = {"probability": 0.0, "range": (1.0, 1.0)}
NO_AUGMENTATION = {
    "flip_rows": 0.0,
    "flip_columns": 0.0,
    "transpose": 0.0,
    "rot90": 0.0,
    "per_channel": False,
    "affine": {"probability": 0.0, "shift": 0.0, "scale": 0.0, "rotate": 0.0},
    "elastic": {"probability": 0.0},
    "brightness": OFF,
    "contrast": OFF,
    "gamma": OFF,
}


def _start(model, optimizer, schedule=RATE, make=steps.make_train_step, **options):
    """The compiled step and the state before it, as training makes them."""
    graphdef, params, batch_stats = split_model(model)
    settings = {"image_size": SIZE, "loss": {"bce": 1.0}, "augment": NO_AUGMENTATION, "seed": 0} | options
    step = make(graphdef, optimizer, StepSettings(**settings), schedule)
    averaged = "ema_decay" in options
    state = steps.init_state(params, batch_stats, optimizer, averaged=averaged)
    return step, jax.device_put(state, mesh.replicated(MESH))


def _copy(state):
    """To be used up in the place of `state`."""
    return jax.tree.map(jnp.copy, state)


def _batch(seed=0):
    """Random intensities, and tumour where the first sequence is bright."""
    image = np.random.default_rng(seed).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    return mesh.global_batch({"image": image, "mask": (image[..., 0] > 128).astype(np.uint8)}, MESH)


def _by_hand(batch):
    """Intensity, mask and logits of `Line` for this batch, in float64."""
    x, m = np.asarray(batch["image"])[..., 0] / 255, np.asarray(batch["mask"], np.float64)
    return x, m, 2 * x - 0.5


def _dice(predicted, mask):
    return 2 * (predicted * mask).sum() / (predicted.sum() + mask.sum())


@pytest.fixture(scope="module")
def line():
    return _start(Line(), optax.sgd(0.5))


def _unet(**options):
    model = models.build("tutorial", 3, 1, nnx.Rngs(params=0), width=4, depth=1, norm="batch")
    schedule = optim.learning_rate_schedule("constant", peak=0.03, warmup_steps=2, steps_per_epoch=5, total_steps=20)
    optimizer = optim.optimizer("adam", schedule, weight_decay=0.0, clip_norm=None)
    loss, augmentation = {"bce": 1.0, "dice": 1.0}, NO_AUGMENTATION | {"flip_columns": 0.5}
    return _start(model, optimizer, schedule, loss=loss, augment=augmentation, **options)


@pytest.fixture(scope="module")
def unet():
    return _unet()


def test_one_step_by_hand(line):
    step, state = line
    batch = _batch()
    x, m, z = _by_hand(batch)
    error = sigmoid(z) - m
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
    state.params["offset"] = jax.device_put(jnp.float32(offset), mesh.replicated(MESH))
    batch = _batch() | mesh.global_batch({"mask": np.full((4, SIZE, SIZE), tumour, np.uint8)}, MESH)
    assert step(state, batch)[1]["dice"] == dice


def test_a_pixel_of_exactly_a_half_is_tumour_for_the_dice_of_training_and_in_the_predicted_mask():
    """Logits of -1/2, 0 and 1/2."""
    rng = np.random.default_rng(0)
    image = rng.choice(np.float32([0, 0.5, 1]), (4, SIZE, SIZE, 3))
    mask = rng.integers(0, 2, (4, SIZE, SIZE), np.uint8)
    step, state = _start(Line(slope=1.0, offset=-0.5), optax.sgd(0.5))
    network = functools.partial(
        make_probability_step(split_model(Line())[0], image_size=SIZE), *jax.tree.map(jnp.copy, state.weights)
    )
    _, logged = step(state, mesh.global_batch({"image": image, "mask": mask}, MESH))
    settings = SegmentSettings(batch_size=4, threshold=0.5, sharding=mesh.by_batch(MESH))
    index = np.array([(0, number) for number in range(4)], np.int32)
    [(_, _, predicted)] = segment_cases(network, [Case("a", "a", image, mask)], index, settings, title="")
    np.testing.assert_array_equal(predicted, image[..., 0] >= 0.5)
    assert logged["dice"] == pytest.approx(_dice(image[..., 0] >= 0.5, mask), rel=1e-6)
    assert logged["dice"] == pytest.approx(metrics.dice(metrics.count(predicted, mask).sum(0)), rel=1e-6)


def _ignored(batch, seed=1):
    """Every other pixel or so."""
    return np.random.default_rng(seed).random(batch["mask"].shape) < 0.5


def test_ignored_pixels_have_no_part_in_a_step_by_hand():
    """Loss, gradient and Dice are those of the other pixels alone, also with weights."""
    step, state = _start(Line(), optax.sgd(0.5), ignores=True)
    batch = _batch()
    x, m, z = _by_hand(batch)
    ignored = _ignored(batch)
    mask = np.where(ignored, labels.IGNORED, np.asarray(batch["mask"])).astype(np.uint8)
    x, m, z = x[~ignored], m[~ignored], z[~ignored]
    error = sigmoid(z) - m
    after, logged = step(_copy(state), batch | mesh.global_batch({"mask": mask}, MESH))
    assert after.params["slope"] == pytest.approx(2 - 0.5 * (error * x).mean(), rel=1e-5)
    assert after.params["offset"] == pytest.approx(-0.5 - 0.5 * error.mean(), rel=1e-5)
    assert logged["loss"] == pytest.approx((np.logaddexp(0, z) - z * m).mean(), rel=1e-5)
    assert logged["dice"] == pytest.approx(_dice(z > 0, m), rel=1e-6)
    weights = np.random.default_rng(2).random(mask.shape, np.float32)
    _, logged = step(_copy(state), batch | mesh.global_batch({"mask": mask, "weights": weights}, MESH))
    losses = np.logaddexp(0, z) - z * m
    assert logged["loss"] == pytest.approx(np.average(losses, weights=weights[~ignored]), rel=1e-5)


def test_ignored_pixels_of_several_classes():
    step, state = _start(Lines(), optax.sgd(0.5), loss={"ce": 1.0}, classes=2, ignores=True)
    batch = _batch()
    _, _, z = _by_hand(batch)
    mask, ignored = _of_classes(batch), _ignored(batch)
    of_pixels = -np.log(softmax(z))
    expected = np.choose(mask, of_pixels)[~ignored].mean()
    mask[ignored] = labels.IGNORED
    _, logged = step(_copy(state), batch | mesh.global_batch({"mask": mask}, MESH))
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_step_without_ignored_pixels_is_the_same_if_there_might_be_some(line):
    batch = _batch()
    _, expected = line[0](_copy(line[1]), batch)
    step, state = _start(Line(), optax.sgd(0.5), ignores=True)
    _, logged = step(state, batch)
    for name in expected:
        assert float(logged[name]) == pytest.approx(float(expected[name]), rel=1e-6)


@pytest.mark.parametrize("classes", [1, 2])
def test_what_patches_show_under_ignored_voxels_does_not_count(classes):
    """There the label is one more than the last; the loss is that of the others, by hand, and the same to the bit."""
    off = Chance(0.0, (1.0, 1.0))
    names = ("rotation", "scaling", "noise", "blur", "brightness", "contrast", "low_resolution")
    patches = AugmentSettings(
        patch=(SIZE, SIZE),
        dummy_2d=False,
        mirror_axes=(),
        **dict.fromkeys((*names, "inverted_gamma", "gamma"), off),
    )
    loss, network = ({"bce": 1.0}, Line()) if classes == 1 else ({"ce": 1.0}, Lines())
    step, state = _start(network, optax.sgd(0.5), loss=loss, classes=classes, ignores=True, patches=patches)
    rng = np.random.default_rng(0)
    image, ignored = rng.random((4, SIZE, SIZE, 3), np.float32), rng.random((4, SIZE, SIZE)) < 0.3
    truth = rng.integers(0, classes + 1, ignored.shape)
    mask = np.where(ignored, classes + 1, np.where(truth == 0, rng.integers(-1, 1, truth.shape), truth))
    z = 2 * image[..., 0].astype(np.float64) - 0.5
    of_pixels = np.logaddexp(0, z) - z * truth if classes == 1 else -np.log(np.choose(truth, softmax(z)))
    logged = [
        step(_copy(state), mesh.global_batch({"image": shown, "mask": mask.astype(np.int16)}, MESH))[1]
        for shown in (image, np.where(ignored[..., None], 7 - image, image))
    ]
    assert logged[0]["loss"] == pytest.approx(of_pixels[~ignored].mean(), rel=1e-5)
    assert logged[0]["loss"] == logged[1]["loss"]
    assert logged[0]["dice"] == logged[1]["dice"]


@pytest.mark.parametrize(
    ("loss", "tolerance"),
    [({"bce": 1.0, "dice": 1.0}, 0), ({"focal": 1.0, "jaccard": 1.0}, 0), ({"lovasz": 1.0}, 1e-6)],
)
@pytest.mark.parametrize("slab", [(), (3,)])
def test_what_an_image_shows_under_ignored_pixels_does_not_count(loss, tolerance, slab):
    """To the bit, for a network that sees single pixels; Lovász sorts all of them, and so sums in another order."""
    step, state = _start(Line(), optax.sgd(0.5), loss=loss, ignores=True)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, *slab, SIZE, SIZE, 3), np.uint8)
    ignored = rng.random(image.shape[:-1]) < 0.5
    mask = np.where(ignored, labels.IGNORED, image[..., 0] > 128).astype(np.uint8)
    other = np.where(ignored[..., None], 255 - image, image)
    _, first = step(_copy(state), mesh.global_batch({"image": image, "mask": mask}, MESH))
    _, second = step(_copy(state), mesh.global_batch({"image": other, "mask": mask}, MESH))
    assert float(first["loss"]) == pytest.approx(float(second["loss"]), rel=tolerance, abs=0)
    assert first["dice"] == second["dice"]


def _of_classes(batch):
    x = np.asarray(batch["image"])[..., 0]
    return np.select([x > 170, x > 90], [1, 2], 0).astype(np.uint8)


def test_one_step_of_several_classes_by_hand():
    step, state = _start(Lines(), optax.sgd(0.5), loss={"ce": 1.0}, classes=2)
    batch = _batch()
    mask = _of_classes(batch)
    x, _, z = _by_hand(batch)
    probability = softmax(z)
    truth = np.stack([mask == number for number in range(3)])
    _, logged = step(_copy(state), batch | mesh.global_batch({"mask": mask}, MESH))
    assert logged["loss"] == pytest.approx(-np.log((probability * truth).sum(0)).mean(), rel=1e-5)
    error = probability - truth
    gradient = (error[1] - error[2]) * x, error[1] - error[2]
    assert logged["gradient_norm"] == pytest.approx(np.hypot(*(of.mean() for of in gradient)), rel=1e-5)
    likeliest = probability.argmax(0)
    expected = np.mean([_dice(likeliest == number, truth[number]) for number in (1, 2)])
    assert logged["dice"] == pytest.approx(expected, rel=1e-6)


def test_what_augmentation_brings_in_is_background(monkeypatch):
    """Where no class is left after augmentation, a network that is sure of the background is right."""
    monkeypatch.setattr(step_inputs, "augment", lambda key, image, targets, *_: (image, jnp.zeros_like(targets)))
    model = Lines(slope=0.0, offset=0.0)
    step, state = _start(model, optax.sgd(0.0), loss={"ce": 1.0}, classes=2)
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
            state = state.replace(totals=jax.device_put(steps.zero_totals(), mesh.replicated(MESH)))
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
        step, state = _start(Line(), optax.sgd(0.5), augment=augmentation, seed=seed)
        for number in (0, 1, 2, 2):
            again = _copy(state.replace(step=jax.device_put(jnp.int32(number), mesh.replicated(MESH))))
            loss = float(step(again, _batch())[1]["loss"])
            assert losses.setdefault((seed, number), loss) == loss
    assert len(set(losses.values())) == 6


def test_dropout_is_a_function_of_seed_and_step():
    model = models.build("tutorial", 3, 1, nnx.Rngs(params=0), width=2, depth=1, dropout=0.5)
    step, state = _start(model, optax.sgd(0.5))
    losses = []
    for number in (0, 1, 0):
        again = _copy(state.replace(step=jax.device_put(jnp.int32(number), mesh.replicated(MESH))))
        losses.append(float(step(again, _batch())[1]["loss"]))
    assert losses[0] == losses[2] != losses[1]


def test_pixel_weights_weigh_the_loss(line):
    step, state = line
    weights = np.random.default_rng(5).uniform(0.5, 2, (4, SIZE, SIZE)).astype(np.float32)
    batch = _batch()
    _, m, z = _by_hand(batch)
    _, logged = step(_copy(state), batch | mesh.global_batch({"weights": weights}, MESH))
    expected = np.average(np.logaddexp(0, z) - z * m, weights=weights)
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)


def test_pixel_weights_move_with_the_image():
    """Weights that single out the bright pixels still do so after flips, so the loss is theirs alone."""
    step, state = _start(Line(), optax.sgd(0.5), augment=NO_AUGMENTATION | {"flip_columns": 0.5})
    batch = _batch()
    _, m, z = _by_hand(batch)
    weights = mesh.global_batch({"weights": np.asarray(m, np.float32)}, MESH)
    _, logged = step(state, batch | weights)
    assert logged["loss"] == pytest.approx(np.average(np.logaddexp(0, z) - z * m, weights=m), rel=1e-5)


def test_a_volume_costs_what_its_slices_cost(line):
    step, state = line
    batch = _batch()
    _, flat = step(_copy(state), batch)
    volumes = {key: np.asarray(x).reshape(2, 2, *x.shape[1:]) for key, x in batch.items()}
    _, deep = step(_copy(state), mesh.global_batch(volumes, MESH))
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

    probability = make_probability_step(split_model(Normalised())[0], image_size=SIZE)
    found = probability(state.params, state.batch_stats, batch["image"])
    z = (x - 0.1 * x.mean()) / np.sqrt(0.9 + 0.1 * x.var() + 1e-5)
    np.testing.assert_allclose(found, sigmoid(z), rtol=1e-5)


def test_the_average_of_the_weights_by_hand():
    """After n steps it keeps min(decay, (1 + n) / (10 + n)): a tenth of the first weights, 2/11, then the decay."""
    optimizer = optax.sgd(0.5)
    step, state = _start(Normalised(), optimizer, ema_decay=0.2)
    plain, without = _start(Normalised(), optimizer)
    mean = jax.tree.map(np.array, {"params": state.params, "batch_stats": state.batch_stats})
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
    return mesh.global_batch({"image": image, "mask": (image[..., 0] > 0.5).astype(np.uint8)}, MESH)


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
    state.params["slope"] = jax.device_put(jnp.float32(slope), mesh.replicated(MESH))
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


def test_the_rate_that_is_logged_is_the_one_that_the_step_used():
    """Warm-up over 4 of 12 steps, then a half cosine; step 3 is skipped, so that the next one has its rate.

    A step of plain gradient descent is as long as its rate times its gradient.
    """
    schedule = optim.learning_rate_schedule("cosine", peak=0.5, warmup_steps=4, steps_per_epoch=6, total_steps=12)
    step, state = _start(Line(), optax.sgd(schedule), schedule, skip_nonfinite=True)
    logged, lengths = [], []
    for number in range(1, 10):
        before = jax.tree.map(np.array, state.params)
        state, values = step(state, _float_batch(np.nan if number == 3 else None))
        logged.append(float(values["learning_rate"]))
        moved = np.hypot(*(float(state.params[key]) - before[key] for key in ("slope", "offset")))
        lengths.append(moved / values["gradient_norm"])
    warm_up = [0.005 + 0.495 * count / 4 for count in range(4)]
    cosine = [0.25 * (1 + np.cos(np.pi * count / 8)) for count in range(4)]
    expected = [*warm_up[:2], warm_up[2], *warm_up[2:], *cosine]
    np.testing.assert_allclose(logged, expected, rtol=1e-5)
    del lengths[2], expected[2]
    np.testing.assert_allclose(lengths, expected, rtol=1e-3)


def test_spikes_are_counted_against_the_running_mean_of_the_norm():
    """Where all is predicted to be tumour and none is, the gradient of a line is the mean intensity, and 1."""
    step, state = _start(Line(), optax.sgd(0.0), spike_factor=3.0)
    factors, norms, counted = [1, 1, 1.5, 5, 1, 40, 0.5, 2], [], []
    usual, spikes, expected = None, 0, []
    for factor in factors:
        image = np.zeros((4, SIZE, SIZE, 3), np.float32)
        image[..., 0] = factor * 100
        batch = mesh.global_batch({"image": image, "mask": np.zeros((4, SIZE, SIZE), np.uint8)}, MESH)
        state, logged = step(state, batch)
        norms.append(float(logged["gradient_norm"]))
        counted.append(int(logged["spikes"]))
        usual = norms[-1] if usual is None else usual
        spikes += norms[-1] > 3 * usual
        usual += steps.NORM_SHARE * (min(norms[-1], 3 * usual) - usual)
        expected.append(spikes)
    assert counted == expected == [0, 0, 0, 1, 1, 2, 2, 2]
    assert float(state.watch["usual_norm"]) == pytest.approx(usual, rel=1e-5)


def test_several_steps_as_one_program_are_the_steps_one_by_one(unet):
    """A network with batch normalisation, Adam and random flips: states and logged numbers, to rounding."""
    step, state = unet
    steps_at_once, same = _unet(make=steps.make_train_steps)
    batches = [_batch(seed) for seed in range(3)]
    stacked = {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}
    found, logged_at_once = steps_at_once(_copy(same), mesh.global_batch(stacked, MESH, several=True))
    state, logged = _copy(state), []
    for batch in batches:
        state, one = step(state, batch)
        logged.append(one)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, state)
    for key, values in logged_at_once.items():
        np.testing.assert_allclose(values, [one[key] for one in logged], rtol=1e-5, atol=1e-6)
