import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lines import Line, sigmoid

from unet_jax.data.case import Case
from unet_jax.models.functional import split_model
from unet_jax.runtime.mesh import data_mesh, replicated
from unet_jax.training import samples, step_inputs, validation_loss
from unet_jax.training.patch_augment.settings import AugmentSettings, Chance
from unet_jax.training.step import init_state
from unet_jax.training.step_settings import StepSettings

SIZE = 8


@pytest.fixture
def settings_of_steps(settings, configure):
    """Training's, whose augmentation is on."""
    return StepSettings.of(configure(settings | {"data.image_size": SIZE, "loss.bce": 1.0, "loss.dice": 0.0}), ())


def test_it_is_the_mean_over_batches_of_what_is_not_augmented(settings_of_steps):
    """Cross-entropy by hand of sigmoid(2x - 0.5), with the averaged weights where there are such."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 4, SIZE, SIZE, 3), np.uint8)
    masks = random.integers(0, 2, images.shape[:-1], np.uint8)
    mesh = data_mesh()
    graphdef, params, batch_stats = split_model(Line())
    batches = [{"image": image, "mask": mask} for image, mask in zip(images, masks, strict=True)]
    loss = validation_loss.make(graphdef, settings_of_steps, lambda: iter(batches), mesh)
    state = jax.device_put(init_state(params, batch_stats, optax.sgd(0.1)), replicated(mesh))

    def by_hand(slope, offset):
        p = sigmoid(slope * images[..., 0] / 255 + offset)
        return -np.where(masks, np.log(p), np.log(1 - p)).mean()

    assert loss(state) == pytest.approx(by_hand(2.0, -0.5), rel=1e-5)
    averaged = {"params": {"slope": jnp.float32(1), "offset": jnp.float32(0)}, "batch_stats": {}}
    assert loss(state.replace(average=averaged)) == pytest.approx(by_hand(1.0, 0.0), rel=1e-5)
    assert loss(state.replace(params={"slope": jnp.float32(np.inf), "offset": jnp.float32(0)})) is None


@pytest.mark.parametrize(
    ("slices", "batch", "steps", "expected"), [(5, 4, 20, 2), (5, 4, 500, 2), (500, 4, 20, 2), (3, 4, 5, 1)]
)
def test_it_takes_at_most_a_tenth_of_an_epochs_steps(slices, batch, steps, expected):
    assert validation_loss.number_of_batches(slices, batch, steps) == expected
    assert validation_loss.number_of_batches(None, batch, steps) == max(steps // 10, 1)


def test_its_slices_are_spread_evenly_and_the_same_each_time(settings, configure):
    image = np.broadcast_to(np.arange(85, dtype=np.uint8)[:, None, None, None], (85, SIZE, SIZE, 1))
    cases = [Case("a", "a", image, np.zeros(image.shape[:-1], np.uint8))]
    index = {"train": [(0, number) for number in range(80)], "val": [(0, number) for number in range(80, 85)]}
    sides = {side: np.array(rows, np.int32) for side, rows in index.items()}
    sampled = samples.of_slices(configure(settings), cases, sides)
    for _ in range(2):
        found = [batch["slice"].tolist() for batch in sampled.validation()]
        assert found == [[80, 81, 82, 83], [80, 81, 83, 84]]


def test_patches_are_as_they_were_cut(settings_of_steps):
    """Of a cascade: what is outside is background, and the mask of the stage before becomes channels."""
    patches = AugmentSettings((2, 2), False, Chance(0.5, (-1.0, 1.0)), (0, 1), labels=(1, 2))
    settings = dataclasses.replace(settings_of_steps, patches=patches, classes=2, image_size=None)
    batch = {
        "image": jnp.array([[[[0.5], [1.5]], [[-1], [2]]]]),
        "mask": jnp.array([[[-1, 0], [1, 2]]], jnp.int16),
        "previous": jnp.array([[[2, 0], [1, 1]]], jnp.int16),
    }
    image, targets = step_inputs.plain_inputs(batch, settings)
    np.testing.assert_array_equal(image[0], [[[0.5, 0, 1], [1.5, 0, 0]], [[-1, 1, 0], [2, 1, 0]]])
    np.testing.assert_array_equal(targets[0], [[[0, 0], [0, 0]], [[1, 0], [0, 1]]])
