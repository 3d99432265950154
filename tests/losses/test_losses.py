import inspect
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import losses
from unet_jax.errors import InputError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "losses.json").read_text())
NAMES = sorted(losses.LOSSES)


def _takes(name, option):
    return option in inspect.signature(losses.LOSSES[name]).parameters


PLAIN = [(name, {}) for name in NAMES]
ENTRIES = PLAIN + [(name, {"per_sample": True}) for name in NAMES if _takes(name, "per_sample")]
# With the options where numbers could run out of their range.
EXTREME = [
    *PLAIN,
    ("dice", {"smooth": 0.0}),
    ("focal", {"gamma": 0.5, "alpha": 0.25}),
    ("focal_tversky", {"smooth": 0.0, "gamma": 3.0}),
]

# The shape of most inputs here: compiling is what takes the time, so tests share their programs.
SHAPE = (2, 2, 3, 4)
WEIGHTS = jnp.ones((*SHAPE, 1))


@jax.jit
def _values(logits, mask, weights=None):
    """The value of each of ENTRIES."""
    return jnp.stack([losses.LOSSES[name](logits, mask, weights, **options) for name, options in ENTRIES])


def _one_hot(labels, k):
    return jnp.asarray(labels[..., None] if k == 1 else np.eye(k)[labels], jnp.float32)


def _random(shape, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(max(2, shape[-1]), size=shape[:-1])
    return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32), _one_hot(labels, shape[-1])


def _arrays(stored):
    shape = stored["shape"]
    logits = jnp.asarray(stored["logits"], jnp.float32).reshape(shape)
    weights = jnp.asarray(stored["pixel_weights"], jnp.float32).reshape(*shape[:-1], 1)
    return logits, _one_hot(np.array(stored["labels"]).reshape(shape[:-1]), shape[-1]), weights


@pytest.fixture(scope="module")
def golden_answers():
    def answer(row):
        logits, mask, weights = _arrays(GOLDEN["inputs"][row["input"]])
        summed = {name: row["options"] for name in row["loss"].split(" + ")}
        pixel_weights = weights if row["weighted"] else None
        return jax.value_and_grad(lambda x: losses.total_loss(x, mask, summed, pixel_weights))(logits)

    return jax.jit(lambda: [answer(row) for row in GOLDEN["rows"]])()


@pytest.mark.parametrize("index", range(len(GOLDEN["rows"])))
def test_agrees_with_other_libraries(golden_answers, index):
    row, (value, gradient) = GOLDEN["rows"][index], golden_answers[index]
    assert float(value) == pytest.approx(row["value"], abs=1e-5), row
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(row["gradient_norm"], abs=1e-6), row


@pytest.fixture(scope="module", params=[1, 3], ids=["binary", "classes"])
def extreme(request):
    """EXTREME at logits of ±1e4, right, wrong and random, for a random, an empty and a full mask."""
    k = request.param
    random, empty, full = (
        _one_hot(labels, k)
        for labels in (
            np.random.default_rng(0).integers(max(2, k), size=SHAPE),
            np.zeros(SHAPE, int),
            np.full(SHAPE, max(1, k - 1)),
        )
    )
    masks, logits = [], []
    for mask in (random, empty, full):
        for sign in (mask, 1 - mask, random):
            masks.append(mask)
            logits.append(1e4 * (2 * sign - 1))

    @jax.jit
    @jax.vmap
    def answers(logits, mask):
        return [
            jax.value_and_grad(lambda x: losses.LOSSES[name](x, mask, **options))(logits)  # noqa: B023
            for name, options in EXTREME
        ]

    return answers(jnp.stack(logits), jnp.stack(masks))


@pytest.mark.parametrize("index", range(len(EXTREME)), ids=map(str, EXTREME))
def test_is_finite_at_extreme_logits(extreme, index):
    values, gradients = extreme[index]
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()
    assert (values >= 0).all()


@pytest.mark.parametrize("index", range(len(EXTREME)), ids=map(str, EXTREME))
def test_a_right_answer_costs_nothing(extreme, index):
    values, gradients = extreme[index]
    right = np.arange(0, 9, 3)  # of the random, the empty and the full mask
    np.testing.assert_allclose(values[right], 0, atol=1e-6)
    np.testing.assert_allclose(gradients[right], 0, atol=1e-6)


@pytest.mark.parametrize("index", range(len(EXTREME)), ids=map(str, EXTREME))
def test_a_wrong_answer_costs(extreme, index):
    values, _ = extreme[index]
    of_random, *of_filled = values[np.arange(1, 9, 3)]
    assert of_random > 0.1
    if EXTREME[index][0] == "cldice":
        # Masks and predictions that are empty or fill the image have no centre lines to compare.
        assert of_filled == [0, 0]
    else:
        assert min(of_filled) > 0.1


def test_losses_of_one_class_are_refused_for_several():
    several = {"ce": 1.0, "dice": 1.0}
    losses.check_weights({"bce": 1.0, "dice": 1.0})
    losses.check_weights(several, classes=3)
    with pytest.raises(InputError, match=r"config\.loss\.bce .* the masks have 3, .* use ce, as in") as error:
        losses.check_weights({"bce": 1.0, "dice": 1.0}, classes=3)
    # What the error proposes can be given as it stands.
    assert str(error.value).endswith(f"--config.loss='{json.dumps(several)}'.")


@pytest.mark.parametrize(
    ("name", "entry", "classes", "expected"),
    [
        ("bce_dice", 1.0, 1, {"bce": 1.0, "dice": 1.0}),
        ("ce_dice", {"weight": 0.5, "smooth": 1e-5}, 2, {"ce": 0.5, "dice": {"weight": 0.5, "smooth": 1e-5}}),
        ("ce_dice", {"per_sample": True}, 3, {"ce": 1.0, "dice": {"per_sample": True}}),
    ],
)
def test_a_former_name_of_a_sum_is_answered_with_the_sum_of_the_same_value(name, entry, classes, expected):
    with pytest.raises(InputError, match=rf"config\.loss has {name}, which no longer exists") as error:
        losses.check_weights({name: entry}, classes)
    proposed = json.loads(re.search(r"give the sum, (\{.*\}), which", str(error.value))[1])
    assert proposed == expected
    losses.check_weights(proposed, classes)
    # What the former function returned: weight · (cross-entropy + Dice with its options).
    options = dict(entry) if isinstance(entry, dict) else {"weight": entry}
    weight = options.pop("weight", 1.0)
    logits, mask = _random((*SHAPE, 1 if classes == 1 else classes + 1))
    former = weight * (losses.LOSSES[name.split("_")[0]](logits, mask) + losses.dice(logits, mask, **options))
    assert float(losses.total_loss(logits, mask, proposed)) == pytest.approx(float(former), rel=1e-6)


@pytest.mark.parametrize("rank", range(4))
def test_any_rank_and_precision_gives_one_float32(rank):
    for k in (1, 3):
        arrays = (jax.ShapeDtypeStruct((2, *SHAPE[:rank], k), dtype) for dtype in (jnp.bfloat16, jnp.float32))
        assert jax.eval_shape(_values, *arrays) == jax.ShapeDtypeStruct((len(ENTRIES),), jnp.float32)


@pytest.mark.parametrize("k", [1, 3])
def test_nothing_is_computed_in_half_precision(k):
    arrays = [x.astype(jnp.bfloat16) for x in (*_random((*SHAPE, k)), WEIGHTS)]
    program = str(jax.make_jaxpr(_values)(*arrays))
    assert "bf16" in program
    assert not re.search(r":bf16\[[\d,]*\] = ", program)
    # Nor at the device's default precision, which products alone have.
    assert "dot_general" not in program


def test_one_class_equals_two_of_a_softmax():
    one, mask = _random((*SHAPE, 1))
    two = jnp.concatenate([jnp.zeros_like(one), one], -1)
    both = jnp.concatenate([1 - mask, mask], -1)
    weights = jnp.asarray(np.random.default_rng(1).random(WEIGHTS.shape), jnp.float32)
    alike = np.array([name not in ("bce", "lovasz") for name, _ in ENTRIES])
    np.testing.assert_allclose(_values(one, mask, weights)[alike], _values(two, both, weights)[alike], rtol=1e-5)


def test_pixel_weights_of_one_change_nothing():
    logits, mask = _random((*SHAPE, 1))
    np.testing.assert_allclose(_values(logits, mask, WEIGHTS), _values(logits, mask), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_pixels_of_weight_zero_do_not_count(k):
    weights = WEIGHTS.at[:, :, 1].set(0)
    logits, mask = _random((*SHAPE, k))
    other_logits, other_mask = _random((*SHAPE, k), seed=1)
    changed = (jnp.where(weights > 0, logits, other_logits), jnp.where(weights > 0, mask, other_mask))
    np.testing.assert_allclose(_values(*changed, weights), _values(logits, mask, weights), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_where_nothing_has_weight_the_loss_is_zero(k):
    np.testing.assert_array_equal(_values(*_random((*SHAPE, k)), 0 * WEIGHTS), 0)


@pytest.mark.parametrize("k", [1, 2])
def test_per_sample_is_the_mean_of_the_samples(k):
    logits, mask = _random((*SHAPE, k))
    together = _values(logits, mask, WEIGHTS)
    singly = np.mean([_values(logits, mask, WEIGHTS.at[other].set(0)) for other in (0, 1)], 0)
    for index, (name, options) in enumerate(ENTRIES):
        if options == {"per_sample": True} and name != "topk":  # whose fraction is taken of all pixels
            assert float(together[index]) == pytest.approx(singly[ENTRIES.index((name, {}))], rel=1e-5), name


def test_total_loss_is_the_weighted_sum():
    # Probabilities of 1/2 on four pixels, two of them in the mask: bce is log 2, Dice 1 - (2 + 1) / (4 + 1)
    # with smooth 1 and 1 - 2 / 4 without, Tversky 1 - 1 / (1 + 0.2 + 0.6) without.
    logits, mask = jnp.zeros((1, 2, 2, 1)), jnp.asarray([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    tversky = {"weight": 0.5, "alpha": 0.2, "beta": 0.6, "smooth": 0.0}
    for weights, expected in (
        ({"bce": 1.0, "dice": 1.0}, np.log(2) + 0.4),
        ({"bce": 2.0, "dice": {"weight": 3.0, "smooth": 0.0}}, 2 * np.log(2) + 3 * 0.5),
        ({"dice": {"smooth": 0.0}, "tversky": tversky}, 0.5 + 0.5 * (1 - 1 / 1.8)),
    ):
        losses.check_weights(weights)
        assert float(losses.total_loss(logits, mask, weights)) == pytest.approx(expected, rel=1e-6)
    weights = jnp.asarray([1.0, 0.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
    loss = losses.total_loss(logits, mask, {"dice": {"smooth": 0.0}}, weights)
    assert float(loss) == pytest.approx(1 - 2 * 0.5 / 1.5)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_may_have_every_loss(name):
    losses.check_weights({name: 1})
    losses.check_weights({name: {"weight": 0.5}})
    assert getattr(losses, name) is losses.LOSSES[name]


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ({}, ["config.loss is empty", '{"bce": 1.0']),
        ({"lovas": 1.0}, ["config.loss has lovas", "lovasz"]),
        ({"bce": 0.0}, ["config.loss.bce", "weight is 0.0", "above 0"]),
        ({"bce": -1.0}, ["weight is -1.0"]),
        ({"bce": float("nan")}, ["weight is nan"]),
        ({"bce": "much"}, ["weight is 'much'"]),
        ({"bce": None}, ["weight is None"]),
        ({"tversky": {"gama": 1.0}}, ["config.loss.tversky has gama", "alpha, beta"]),
        ({"bce": {"smooth": 1.0}}, ["config.loss.bce has smooth", "it may have weight."]),
        ({"tversky": {"alpha": 1.5}}, ["config.loss.tversky: alpha is 1.5", "from 0 to 1"]),
        ({"tversky": {"alpha": None}}, ["alpha is None"]),
        ({"topk": {"fraction": 10}}, ["config.loss.topk: fraction is 10", "above 0 and at most 1"]),
        ({"dice": {"smooth": -1.0}}, ["smooth is -1.0", "0 or more"]),
        ({"dice": {"per_sample": 1}}, ["per_sample is 1", "True or False"]),
        ({"focal_tversky": {"gamma": 0.0}}, ["gamma is 0.0", "above 0"]),
    ],
)
def test_what_a_config_may_not_have_is_named_in_one_line(weights, parts):
    with pytest.raises(InputError) as error:
        losses.check_weights(weights)
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_all_faults_are_named_at_once():
    with pytest.raises(InputError) as error:
        losses.check_weights({"lovas": 1.0, "topk": {"fraction": 10, "k": 3}, "focal": {"alpha": None}})
    assert len(str(error.value).splitlines()) == 3


def test_every_option_has_its_range():
    for name in NAMES:
        parameters = inspect.signature(losses.LOSSES[name]).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert set(options) <= set(losses.VALUES)
        losses.check_weights({name: options})


def _deep(logits, mask, weights, pixel_weights=None):
    return jax.jit(lambda *arrays: losses.deep_supervision_loss(arrays[0], arrays[1], weights, arrays[2]))(
        logits, mask, pixel_weights
    )


def test_resolutions_weigh_half_of_the_one_above_and_the_lowest_nothing():
    # The mask is full, so bce at a constant logit z is log(1 + exp(-z)).
    sizes, constants = (4, 2, 1, 1), (-1.0, 0.5, 2.0, np.nan)
    logits = tuple(jnp.full((1, n, n, 1), z, jnp.float32) for n, z in zip(sizes, constants, strict=True))
    expected = [np.log1p(np.exp(-z)) for z in constants[:3]]
    loss = _deep(logits, jnp.ones((1, 4, 4, 1)), {"bce": 1.0})
    assert float(loss) == pytest.approx(np.dot([4 / 7, 2 / 7, 1 / 7], expected), rel=1e-6)


def test_the_highest_resolution_is_the_masks():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2, 1\) and the mask \(1, 4, 4, 1\)"):
        losses.deep_supervision_loss((jnp.zeros((1, 2, 2, 1)),), jnp.zeros((1, 4, 4, 1)), {"bce": 1.0})


def test_a_single_resolution_is_the_loss_itself():
    logits, mask = _random((2, 4, 5, 1))
    loss = _deep((logits,), mask, {"bce": 1.0, "dice": 2.0})
    assert float(loss) == pytest.approx(float(losses.total_loss(logits, mask, {"bce": 1.0, "dice": 2.0})))


def test_lower_resolutions_see_the_reduced_mask_and_weights():
    # In blocks of 2 × 2 × 1 alike, the nearest pixel of a block is the block's value.
    logits, mask = _random((2, 3, 2, 4, 3))
    weights = jnp.asarray(np.random.default_rng(1).random((2, 3, 2, 4, 1)), jnp.float32)

    def enlarge(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    levels = (enlarge(logits), logits, logits[:, :1, :1, :1])
    loss = _deep(levels, enlarge(mask), {"ce": 1.0}, enlarge(weights))
    assert float(loss) == pytest.approx(float(losses.ce(logits, mask, weights)), rel=1e-6)


def test_deep_supervision_agrees_with_monai():
    stored = GOLDEN["deep_supervision"]
    levels = [_arrays(level) for level in stored["levels"]]
    loss = _deep([logits for logits, _, _ in levels], levels[0][1], stored["loss"])
    assert float(loss) == pytest.approx(stored["value"], abs=1e-5)


def test_losses_of_classes_that_exclude_each_other_are_refused_for_those_that_overlap():
    losses.check_weights({"bce": 1.0, "dice": {"sigmoid": True}}, classes=3, overlap=True)
    with pytest.raises(InputError) as error:
        losses.check_weights({"ce": 1.0, "dice": 1.0}, classes=3, overlap=True)
    ce, dice = str(error.value).splitlines()
    assert re.match(r"config\.loss\.ce is a loss for classes that exclude each other, .* use bce, as in", ce)
    assert re.match(r"config\.loss\.dice needs sigmoid, as the masks have 3 classes that may overlap", dice)
    losses.check_weights(json.loads(dice.split("'")[1]), classes=3, overlap=True)


def test_sigmoid_is_refused_for_classes_that_exclude_each_other():
    with pytest.raises(InputError, match=r"config\.loss\.dice has sigmoid, .* exclude each other: leave it out"):
        losses.check_weights({"ce": 1.0, "dice": {"sigmoid": True}}, classes=3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "options"), ENTRIES, ids=str)
def test_a_loss_pools_samples_where_it_is_not_the_mean_of_theirs(name, options, weighted):
    rng = np.random.default_rng(2)
    logits, mask, weights = rng.normal(size=(2, 40, 1)), rng.random((2, 40, 1)) < 0.3, rng.random((2, 40, 1))
    weights = weights * [[[1.0]], [[5.0]]] if weighted else None
    entry = {name: options}

    def value(rows):
        given = (None if x is None else jnp.asarray(x[rows], jnp.float32) for x in (logits, mask, weights))
        logit, truth, pixels = given
        return float(losses.total_loss(logit, truth, entry, pixels))

    of_each = (value(slice(0, 1)) + value(slice(1, 2))) / 2
    pools = losses.pools_samples(entry, weighted=weighted)
    assert pools == (value(slice(0, 2)) != pytest.approx(of_each, rel=1e-5))
