import jax
import numpy as np
import optax
import pytest
from flax import nnx

from unet_jax import models
from unet_jax.errors import InputError
from unet_jax.models.functional import split_model
from unet_jax.runtime import mesh
from unet_jax.training import optim, parts
from unet_jax.training import step as steps

SIZE = 8
RATE = optax.constant_schedule(0.5)
OFF = {"probability": 0.0, "range": (1.0, 1.0)}
NO_AUGMENTATION = {
    **dict.fromkeys(("flip_rows", "flip_columns", "transpose", "rot90"), 0.0),
    "per_channel": False,
    "affine": {"probability": 0.0, "shift": 0.0, "scale": 0.0, "rotate": 0.0},
    "elastic": {"probability": 0.0},
    **dict.fromkeys(("brightness", "contrast", "gamma"), OFF),
}


def _start(model, optimizer, frozen=()):
    """The compiled step and the state before it, as training makes them."""
    graphdef, *arrays = split_model(model)
    params, batch_stats = jax.tree.map(jax.numpy.copy, arrays)  # a step uses its state up
    settings = steps.StepSettings(SIZE, {"bce": 1.0}, NO_AUGMENTATION, 0, frozen=frozen)
    step = steps.make_train_step(graphdef, optimizer, settings, RATE)
    return step, jax.device_put(steps.init_state(params, batch_stats, optimizer), mesh.replicated(mesh.data_mesh()))


def _copy(state):
    """To be used up in the place of `state`."""
    return jax.tree.map(jax.numpy.copy, state)


def _batch(seed=0):
    """Random intensities, and tumour where the first sequence is bright."""
    image = np.random.default_rng(seed).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    return {"image": image, "mask": (image[..., 0] > 128).astype(np.uint8)}


@pytest.fixture(scope="module")
def unet():
    return models.build("tutorial", 3, 1, nnx.Rngs(0), width=2, depth=2, norm="batch")


def test_a_frozen_part_is_the_same_to_the_bit_after_steps_and_the_others_are_not(unet):
    optimizer = optim.optimizer("adam", RATE, weight_decay=0.1, clip_norm=1.0)
    step, state = _start(unet, optimizer, frozen=("encoder",))
    before = jax.device_get(_copy(state))
    for seed in range(2):
        state, _ = step(state, _batch(seed))
    after = jax.device_get(state)
    for kind in ("params", "batch_stats"):
        old, new = getattr(before, kind), getattr(after, kind)
        jax.tree.map(np.testing.assert_array_equal, old["encoder"], new["encoder"])
        others = [name for name in old if name != "encoder" and jax.tree.leaves(old[name])]
        assert others
        for name in others:
            changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), old[name], new[name])
            assert any(jax.tree.leaves(changed)), name


def test_the_gradient_of_a_frozen_part_does_not_count_in_the_norm(unet):
    norms = []
    for frozen in ((), ("encoder", "upsamples", "decoder", "head")):
        step, state = _start(unet, optax.sgd(0.1), frozen=frozen)
        norms.append(float(step(state, _batch())[1]["gradient_norm"]))
    assert norms[0] > 0
    assert norms[1] == 0


def test_a_rate_of_a_part_is_a_factor_on_its_step(unet):
    moved = {}
    for text in (None, "encoder=0.5, encoder/1=0.25"):
        factors = parts.rates(text)
        optimizer = optax.chain(optax.sgd(0.125), parts.scaled(factors)) if factors else optax.sgd(0.125)
        step, state = _start(unet, optimizer)
        before = jax.device_get(_copy(state).params)
        after = jax.device_get(step(state, _batch())[0].params)
        moved[text] = jax.tree.map(lambda a, b: b - a, before, after)
    plain, scaled = moved.values()
    for path, factor in ((("encoder", 0), 0.5), (("encoder", 1), 0.25), (("head",), 1.0)):
        one, other = plain, scaled
        for key in path:
            one, other = one[key], other[key]
        jax.tree.map(lambda a, b, f=factor: np.testing.assert_allclose(b, f * a, rtol=1e-3, atol=1e-6), one, other)


def test_parts_as_text():
    assert parts.names(None) == ()
    assert parts.names("stem, encoder/0/") == ("stem", "encoder/0")
    assert parts.rates("encoder=0.1, encoder/0 = 0.01") == {"encoder": 0.1, "encoder/0": 0.01}
    for wrong in ("encoder", "encoder=slow", "encoder=0", "encoder=-1"):
        with pytest.raises(InputError, match=r"config\.optim\.part_rates is .* needs a factor above 0"):
            parts.rates(wrong)


def test_a_part_that_is_not_there_is_answered_with_those_that_are():
    params = {"encoder": {0: {"kernel": np.zeros(1)}, 10: {"kernel": np.zeros(1)}}, "head": {"bias": np.zeros(1)}}
    parts.check("train.freeze", ("encoder/10", "head"), params)
    with pytest.raises(
        InputError, match=r"config\.train\.freeze names encoder/1, and the network's parts are encoder, h"
    ):
        parts.check("train.freeze", ("encoder/1", "head"), params)
