import jax.numpy as jnp
import numpy as np
import optax
import pytest
from nnunet_arrays import arrays

from unet_jax.errors import InputError
from unet_jax.training.optim import learning_rate_schedule, optimizer

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
GRADIENT = {"w": jnp.array([0.3, -0.4]), "b": jnp.array([1.2])}  # its norm is 1.3


def _schedule(name="constant", *, warmup_steps=100, steps_per_epoch=500, total_steps=1000):
    return learning_rate_schedule(
        name,
        peak=0.1,
        warmup_steps=warmup_steps,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )


def _update(name, gradients, *, rate=0.1, weight_decay=0.0, clip_norm=None, coupled_decay=False):
    """What the optimiser adds to PARAMS after each of `gradients`; PARAMS stay as they are."""
    schedule = optax.constant_schedule(rate)
    transformation = optimizer(
        name, schedule, weight_decay=weight_decay, clip_norm=clip_norm, coupled_decay=coupled_decay
    )
    state = transformation.init(PARAMS)
    for gradient in gradients:
        updates, state = transformation.update(gradient, state, PARAMS)
    return updates


def _assert_close(tree, expected):
    assert tree.keys() == expected.keys()
    for key, value in expected.items():
        # 1 - .999², Adam's bias correction, has four digits in float32.
        np.testing.assert_allclose(tree[key], value, rtol=1e-4)


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_warm_up_is_torchvisions(name):
    """Its factor at a step is f (1 - a) + a, with a = step / warmup and f = 1 / 100."""
    schedule = _schedule(name)
    for step in range(100):
        a = step / 100
        assert schedule(step) == pytest.approx(0.1 * (0.01 * (1 - a) + a), rel=1e-5)
    assert schedule(100) == pytest.approx(0.1, rel=1e-6)


def test_a_constant_schedule_stays_at_its_peak():
    assert [float(_schedule()(step)) for step in (100, 500, 5000)] == pytest.approx([0.1] * 3, rel=1e-6)


@pytest.mark.parametrize(
    ("warmup_steps", "steps_per_epoch", "warmup"),
    [(100, 500, 100), (100, 101, 100), (100, 100, 99), (100, 20, 19), (5, 20, 5), (100, 2, 1)],
)
def test_warm_up_ends_within_the_first_epoch(warmup_steps, steps_per_epoch, warmup):
    schedule = _schedule(warmup_steps=warmup_steps, steps_per_epoch=steps_per_epoch)
    assert schedule(warmup) == pytest.approx(0.1, rel=1e-6)
    assert schedule(warmup - 1) == pytest.approx(0.1 * (0.01 / warmup + (warmup - 1) / warmup), rel=1e-5)


@pytest.mark.parametrize(("warmup_steps", "steps_per_epoch"), [(0, 500), (100, 1)])
def test_without_warm_up_the_first_step_is_at_the_peak(warmup_steps, steps_per_epoch):
    schedule = _schedule(warmup_steps=warmup_steps, steps_per_epoch=steps_per_epoch)
    assert schedule(0) == pytest.approx(0.1, rel=1e-6)


def test_the_cosine_falls_from_the_peak_to_0_at_the_last_step():
    schedule = _schedule("cosine")
    for share in (0, 0.25, 0.5, 0.75, 1):
        expected = 0.1 * (1 + np.cos(np.pi * share)) / 2
        assert schedule(100 + round(900 * share)) == pytest.approx(expected, abs=1e-7)


def test_the_poly_schedule_is_nnunets():
    """Of 1,000 epochs, of 250 steps each, all at the same rate."""
    golden = arrays("training")
    schedule = learning_rate_schedule("poly", peak=0.01, warmup_steps=0, steps_per_epoch=250, total_steps=250 * 1000)
    for epoch, rate in zip(golden["rate/epoch"], golden["rate/value"], strict=True):
        for step in (0, 123, 249):
            assert float(schedule(250 * int(epoch) + step)) == pytest.approx(rate, rel=2e-5)
    assert float(schedule(250 * 1000)) == 0


def test_warm_up_leaves_the_epochs_of_the_poly_schedule_whole():
    schedule = _schedule("poly", warmup_steps=3, steps_per_epoch=5, total_steps=10)
    expected = [0.001, 0.034, 0.067, 0.1, 0.1, *[0.1 * 0.5**0.9] * 5, 0]
    assert [float(schedule(step)) for step in range(11)] == pytest.approx(expected, rel=1e-5)


def test_a_single_step_has_a_cosine_too():
    assert _schedule("cosine", steps_per_epoch=1, total_steps=1)(0) == pytest.approx(0.1, rel=1e-6)


def test_the_first_steps_of_adam_by_hand():
    """Bias-corrected, the first step is the gradient's sign; the second is worked out from b1 = .9, b2 = .999."""
    _assert_close(_update("adam", [GRADIENT]), {"w": [-0.1, 0.1], "b": [-0.1]})
    tripled = {"w": 3 * GRADIENT["w"], "b": 3 * GRADIENT["b"]}
    mean = (0.9 * 0.1 * 1 + 0.1 * 3) / (1 - 0.9**2)
    square = (0.999 * 0.001 * 1 + 0.001 * 9) / (1 - 0.999**2)
    step = 0.1 * mean / np.sqrt(square)
    _assert_close(_update("adam", [GRADIENT, tripled]), {"w": [-step, step], "b": [-step]})


def test_the_first_steps_of_adamax_by_hand():
    """The second moment is the largest gradient so far, decayed by b2 = .999."""
    _assert_close(_update("adamax", [GRADIENT]), {"w": [-0.1, 0.1], "b": [-0.1]})
    halved = {"w": GRADIENT["w"] / 2, "b": GRADIENT["b"] / 2}
    step = 0.1 * (0.9 * 0.1 * 1 + 0.1 * 0.5) / (1 - 0.9**2) / 0.999
    _assert_close(_update("adamax", [GRADIENT, halved]), {"w": [-step, step], "b": [-step]})


def test_the_first_steps_of_sgd_by_hand():
    """Nesterov: velocity v = g + .99 v, step = g + .99 v."""
    _assert_close(_update("sgd", [GRADIENT]), {"w": [-0.0597, 0.0796], "b": [-0.2388]})
    second = 1 + 0.99 * (1 + 0.99)
    _assert_close(
        _update("sgd", [GRADIENT, GRADIENT]),
        {"w": [-0.03 * second, 0.04 * second], "b": [-0.12 * second]},
    )


def test_weight_decay_is_decoupled_from_the_gradient():
    """It takes rate × decay × parameter off, whatever Adam makes of the gradient."""
    updates = _update("adam", [GRADIENT], weight_decay=0.01)
    _assert_close(updates, {"w": [-0.1 - 0.001 * 1.0, 0.1 + 0.001 * 2.0], "b": [-0.1 - 0.001 * 0.5]})


def test_coupled_weight_decay_is_part_of_the_gradient():
    """By hand: a parameter of 1 and a gradient of .3 make one of .3 + .01; Nesterov's first step is 1.99 times it."""
    updates = _update("sgd", [GRADIENT], weight_decay=0.01, coupled_decay=True)
    _assert_close(updates, {"w": [-0.199 * 0.31, 0.199 * 0.42], "b": [-0.199 * 1.205]})


def test_clipping_leaves_coupled_weight_decay_alone():
    updates = _update("sgd", [GRADIENT], weight_decay=0.01, coupled_decay=True, clip_norm=0.65)
    _assert_close(updates, {"w": [-0.199 * 0.16, 0.199 * 0.22], "b": [-0.199 * 0.605]})


def test_steps_of_sgd_are_nnunets():
    """Six epochs of one step each; two of the gradients are longer than 12."""
    golden = arrays("training")
    schedule = learning_rate_schedule("poly", peak=0.01, warmup_steps=0, steps_per_epoch=1, total_steps=6)
    transformation = optimizer("sgd", schedule, weight_decay=3e-5, clip_norm=12.0, coupled_decay=True)
    first, *after = golden["sgd/trajectory"]
    params = jnp.asarray(first)
    state = transformation.init(params)
    assert (np.linalg.norm(golden["sgd/grads"], axis=1) > 12).sum() == 2
    for gradient, expected in zip(golden["sgd/grads"], after, strict=True):
        updates, state = transformation.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, expected, rtol=0, atol=2e-6)


def test_a_gradient_longer_than_the_limit_is_scaled_down_to_it():
    plain = _update("sgd", [GRADIENT])
    clipped = _update("sgd", [GRADIENT], clip_norm=0.65)
    _assert_close(clipped, {key: value / 2 for key, value in plain.items()})
    _assert_close(_update("sgd", [GRADIENT], clip_norm=1.4), plain)


def test_clipping_comes_before_adams_moments():
    """The first gradient is clipped to half and the second is not: as two equal gradients, so a step of one rate."""
    halved = {"w": GRADIENT["w"] / 2, "b": GRADIENT["b"] / 2}
    updates = _update("adam", [GRADIENT, halved], clip_norm=0.65)
    _assert_close(updates, {"w": [-0.1, 0.1], "b": [-0.1]})


def test_the_rate_of_each_step_is_the_schedules():
    transformation = optimizer("adam", lambda step: 0.1 / (1 + step), weight_decay=0.0, clip_norm=None)
    state = transformation.init(PARAMS)
    for step in range(3):
        updates, state = transformation.update(GRADIENT, state, PARAMS)
        np.testing.assert_allclose(updates["b"], [-0.1 / (1 + step)], rtol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"config.optim.schedule is 'step'; .* constant, cosine, poly\."):
        _schedule("step")
    with pytest.raises(InputError, match=r"config.optim.name is 'lion'; .* adam, adamax, sgd\."):
        _update("lion", [GRADIENT])
