import jax
import jax.numpy as jnp
import numpy as np
import pytest
from traced import imprecise_products

from unet_jax.training import augment as module

KEY = jax.random.key(0)


def _settings(**changes):
    """Everything off, and what `changes` switches on."""
    off = dict.fromkeys(("flip_rows", "flip_columns", "transpose", "rot90"), 0.0)
    off["affine"] = {"probability": 0.0, "shift": 0.0, "scale": 0.0, "rotate": 0.0}
    off["elastic"] = {"probability": 0.0, "std": 10.0, "grid": 3}
    for name in ("brightness", "contrast", "gamma"):
        off[name] = {"probability": 0.0, "range": (0.5, 1.5)}
    return off | {"per_channel": False} | changes


def augment(key, image, mask, settings, stacked=1):
    """Compiled, as it is used."""
    return jax.jit(lambda *arguments: module.augment(*arguments, settings, stacked))(key, image, mask)


def _affine(**limits):
    return {"affine": {"probability": 1.0, "shift": 0.0, "scale": 0.0, "rotate": 0.0} | limits}


EVERYTHING = _settings(
    flip_rows=0.5,
    flip_columns=0.5,
    transpose=0.5,
    rot90=0.5,
    **_affine(shift=0.1, scale=0.2, rotate=20.0),
    elastic={"probability": 0.5, "std": 1.0, "grid": 3},
    **{name: {"probability": 0.5, "range": (0.7, 1.3)} for name in ("brightness", "contrast", "gamma")},
)


@jax.jit
def everything(key, image, mask):
    return module.augment(key, image, mask, EVERYTHING)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(6, 5, 5, 3)).astype(np.float32)
    return jnp.asarray(image), jnp.asarray(rng.integers(0, 2, (6, 5, 5, 1)), jnp.float32)


@pytest.fixture
def draws_at_their_limit(monkeypatch):
    def limit(key, shape=(), minval=0.0, maxval=1.0):
        return jnp.full(shape, maxval, jnp.float32)

    monkeypatch.setattr(jax.random, "uniform", limit)


def _many(count, **changes):
    """The same 2×2 picture `count` times, transformed: [count, 4] of 1 to 4. It is its own mask."""
    picture = jnp.broadcast_to(jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None], (count, 2, 2, 1))
    image, mask = augment(KEY, picture, picture, _settings(**changes))
    np.testing.assert_array_equal(image, mask)  # they move together
    return np.asarray(image).reshape(count, 4).astype(int)


def _assert_share(happened, probability):
    """Within five standard deviations of the binomial distribution."""
    spread = np.sqrt(probability * (1 - probability) / len(happened))
    assert abs(np.mean(happened) - probability) < 5 * spread


def test_probability_0_changes_nothing(pictures):
    image, mask = augment(KEY, *pictures, _settings())
    np.testing.assert_array_equal(image, pictures[0])
    np.testing.assert_array_equal(mask, pictures[1])


@pytest.mark.parametrize(("name", "axis"), [("flip_rows", 1), ("flip_columns", 2)])
def test_flips_of_probability_1_are_numpys(pictures, name, axis):
    transformed = augment(KEY, *pictures, _settings(**{name: 1.0}))
    for before, after in zip(pictures, transformed, strict=True):
        np.testing.assert_array_equal(after, np.flip(before, axis))


def test_transpose_of_probability_1_is_numpys(pictures):
    transformed = augment(KEY, *pictures, _settings(transpose=1.0))
    for before, after in zip(pictures, transformed, strict=True):
        np.testing.assert_array_equal(after, np.swapaxes(before, 1, 2))


def test_rot90_of_probability_1_is_one_of_numpys_three(pictures):
    image, mask = augment(KEY, *pictures, _settings(rot90=1.0))
    turns = []
    for before, after, mask_before, mask_after in zip(pictures[0], image, pictures[1], mask, strict=True):
        [turn] = [k for k in (1, 2, 3) if np.array_equal(after, np.rot90(before, k))]
        np.testing.assert_array_equal(mask_after, np.rot90(mask_before, turn))
        turns.append(turn)
    assert len(set(turns)) > 1


def test_flips_of_probability_a_half_happen_half_of_the_time():
    outcomes = _many(1000, flip_rows=0.5, flip_columns=0.5)
    for picture in ([1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]):  # none, rows, columns, both
        _assert_share((outcomes == picture).all(1), 0.25)


def test_transpose_of_probability_a_tenth_happens_a_tenth_of_the_time():
    _assert_share((_many(1000, transpose=0.1) == [1, 3, 2, 4]).all(1), 0.1)


def test_turns_are_equally_likely():
    outcomes = _many(1000, rot90=1.0)
    for picture in ([2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]):  # 90, 180, 270 degrees
        _assert_share((outcomes == picture).all(1), 1 / 3)


def test_the_mask_stays_0_or_1_and_the_image_finite(pictures):
    for seed in range(5):
        image, mask = everything(jax.random.key(seed), *pictures)
        assert np.isin(mask, (0, 1)).all()
        assert np.isfinite(image).all()


def test_the_same_key_gives_the_same_and_another_key_something_else(pictures):
    once, again = (everything(jax.random.key(3), *pictures) for _ in range(2))
    other = everything(jax.random.key(4), *pictures)
    for a, b, c in zip(once, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_each_image_has_a_draw_of_its_own():
    image = jnp.broadcast_to(jnp.linspace(0, 1, 16).reshape(1, 4, 4, 1), (8, 4, 4, 1))
    changes = {"brightness": {"probability": 1.0, "range": (0.5, 1.5)}}
    bright, _ = augment(KEY, image, image, _settings(**changes))
    factors = bright[:, -1, -1, 0]
    assert len(np.unique(factors)) == 8
    assert factors.min() >= 0.5
    assert factors.max() <= 1.5


def _sample(plane, row, column, nearest):
    """The value between pixels of a plane that is 0 all around."""

    def at(r, c):
        return plane[r, c] if 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1] else 0.0

    if nearest:
        return at(round(row), round(column))
    r, c = int(np.floor(row)), int(np.floor(column))
    y, x = row - r, column - c
    return (
        at(r, c) * (1 - y) * (1 - x)
        + at(r, c + 1) * (1 - y) * x
        + at(r + 1, c) * y * (1 - x)
        + at(r + 1, c + 1) * y * x
    )


@pytest.mark.usefixtures("draws_at_their_limit")
@pytest.mark.parametrize(("shift", "scale"), [(0.3, 0.0), (0.11, -0.2)])
def test_shift_and_scale_by_an_explicit_evaluation(shift, scale):
    """A pixel at p comes from (p - centre - shift) / scale + centre; image bilinear, mask nearest."""
    rng = np.random.default_rng(0)
    image, mask = rng.uniform(size=(8, 6, 2)), rng.integers(0, 2, (8, 6, 1))
    moved, moved_mask = augment(
        KEY,
        jnp.asarray(image, jnp.float32)[None],
        jnp.asarray(mask, jnp.float32)[None],
        _settings(**_affine(shift=shift, scale=scale)),
    )
    for row, column in np.ndindex(8, 6):
        source_row = (row - 3.5 - shift * 8) / (1 + scale) + 3.5
        source_column = (column - 2.5 - shift * 6) / (1 + scale) + 2.5
        for channel in range(2):
            expected = _sample(image[..., channel], source_row, source_column, nearest=False)
            assert moved[0, row, column, channel] == pytest.approx(expected, abs=1e-5)
        expected = _sample(mask[..., 0], source_row, source_column, nearest=True)
        assert moved_mask[0, row, column, 0] == expected


@pytest.mark.usefixtures("draws_at_their_limit")
def test_rotation_by_90_degrees_is_numpys(pictures):
    transformed = augment(KEY, *pictures, _settings(**_affine(rotate=90.0)))
    for before, after in zip(pictures, transformed, strict=True):
        np.testing.assert_allclose(after, np.rot90(before, 1, (1, 2)), atol=1e-5)


def test_coordinates_are_exact_to_a_thousandth_of_a_pixel():
    """An image of its own row and column numbers shows where each pixel was sampled."""
    height, width = 256, 320
    numbers = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.float64)
    settings = _settings(**_affine(shift=0.1, scale=0.3, rotate=45.0))
    image = jnp.asarray(numbers, jnp.float32)[None]
    for seed in range(3):
        key = jax.random.key(seed)
        found, _ = augment(key, image, image, settings)
        [of_image] = jax.random.split(key, 1)

        def draw(name, limit, shape=()):
            drawn = jax.random.uniform(module._draw(of_image, name), shape, minval=-limit, maxval=limit)  # noqa: B023
            return np.asarray(drawn, np.float64)

        angle, scale = np.deg2rad(draw("rotate", 45.0)), 1 + draw("scale", 0.3)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
        centre = (np.array([height, width]) - 1) / 2
        source = (numbers - centre - draw("shift", 0.1, (2,)) * [height, width]) @ turn.T + centre
        inside = ((source > 0) & (source < np.array([height, width]) - 1)).all(-1)
        assert inside.mean() > 0.3
        np.testing.assert_allclose(np.asarray(found)[0][inside], source[inside], rtol=0, atol=1e-3)


def _keys_cubic(x):
    """The convolution kernel of bicubic interpolation (Keys 1981, a = -1/2)."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def test_elastic_displacements_are_the_nodes_own_and_bicubic_between():
    """An image of its own row and column numbers shows where each pixel was sampled."""
    height, width, std = 41, 33, 1.5
    numbers = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.float64)
    image = jnp.asarray(numbers, jnp.float32)[None]
    found, _ = augment(KEY, image, image, _settings(elastic={"probability": 1.0, "std": std, "grid": 3}))
    [of_image] = jax.random.split(KEY, 1)
    nodes = std * np.asarray(jax.random.normal(module._draw(of_image, "displacement"), (3, 3, 2)), np.float64)

    def weights(pixels):
        # Where the kernel reaches beyond the grid, what is left of it is scaled up to a sum of 1.
        shares = np.array([[_keys_cubic(2 * p / (pixels - 1) - node) for node in range(3)] for p in range(pixels)])
        return shares / shares.sum(1, keepdims=True)

    moves = np.einsum("rn,cm,nmk->rck", weights(height), weights(width), nodes)
    np.testing.assert_allclose(moves[[0, 20, 40]][:, [0, 16, 32]], nodes, atol=1e-12)
    inside = ((numbers + moves > 0) & (numbers + moves < np.array([height, width]) - 1)).all(-1)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(np.asarray(found)[0][inside], (numbers + moves)[inside], rtol=0, atol=1e-4)


def test_an_elastic_deformation_of_0_pixels_changes_nothing(pictures):
    settings = _settings(elastic={"probability": 1.0, "std": 0.0, "grid": 3})
    for before, after in zip(pictures, augment(KEY, *pictures, settings), strict=True):
        np.testing.assert_array_equal(after, before)


def test_elastic_deformations_happen_as_often_as_asked_and_move_the_mask_with_the_image():
    """The mask is a threshold of the image, so it stays one wherever the image is not near the threshold."""
    ramp = jnp.broadcast_to(jnp.arange(32.0)[None, None, :, None], (200, 32, 32, 1))
    weights = jnp.where(ramp > 15.5, 7.0, 3.0)
    targets = jnp.concatenate([(ramp > 15.5).astype(jnp.float32), weights], axis=-1)
    image, moved = augment(KEY, ramp, targets, _settings(elastic={"probability": 0.25, "std": 3.0, "grid": 3}))
    clear = np.abs(np.asarray(image)[..., 0] - 15.5) > 0.51
    np.testing.assert_array_equal(moved[..., 0][clear], (image[..., 0] > 15.5)[clear])
    np.testing.assert_array_equal(moved[..., 1], 3 + 4 * moved[..., 0])
    _assert_share((np.asarray(image) != np.asarray(ramp)).any((1, 2, 3)), 0.25)


def test_no_device_computes_coordinates_or_statistics_in_reduced_precision():
    """A matrix product of coordinates is off by up to .05 pixel in TF32 and .4 in bfloat16, at 256²."""
    image = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    mask = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    settings = EVERYTHING | {"per_channel": True}
    assert imprecise_products(lambda x, y: x @ y, jnp.ones((2, 2)), jnp.ones((2, 2)))
    assert not imprecise_products(lambda image, mask: module.augment(KEY, image, mask, settings), image, mask)


def test_shifts_stay_within_their_limit_and_happen_as_often_as_asked():
    image = jnp.broadcast_to(jnp.arange(16.0)[None, None, :, None], (400, 16, 16, 1))
    affine = {"probability": 0.25, "shift": 0.125, "scale": 0.0, "rotate": 0.0}
    moved, _ = augment(KEY, image, image, _settings(affine=affine))
    shifts = 8 - np.asarray(moved)[:, 8, 8, 0]  # the image is its own column number
    assert np.abs(shifts).max() <= 2 + 1e-5
    assert np.abs(shifts).max() > 1.5
    _assert_share(shifts != 0, 0.25)
    untouched = shifts == 0
    np.testing.assert_array_equal(moved[untouched], image[untouched])
    _assert_share(shifts[shifts != 0] > 0, 0.5)


def _fixed(factor):
    return {"probability": 1.0, "range": (factor, factor)}


def test_brightness_contrast_and_gamma_by_their_formulas(pictures):
    image, mask = pictures
    x = np.asarray(image, np.float64)
    mean = x.mean((1, 2, 3), keepdims=True)
    for changes, expected in (
        ({"contrast": _fixed(0.5)}, (x - mean) * 0.5 + mean),
        ({"brightness": _fixed(3.0), "gamma": _fixed(1.5)}, np.clip(x * 3, 0, 1) ** 1.5),
    ):
        transformed, same_mask = augment(KEY, image, mask, _settings(**changes))
        np.testing.assert_allclose(transformed, expected, rtol=1e-5)
        np.testing.assert_array_equal(same_mask, mask)


def test_each_channel_can_have_a_factor_of_its_own(pictures):
    image, mask = pictures
    brightness = {"probability": 1.0, "range": (0.5, 1.5)}
    by_image, _ = augment(KEY, image, mask, _settings(brightness=brightness))
    by_channel, _ = augment(KEY, image, mask, _settings(brightness=brightness, per_channel=True))
    for bright, draws in ((by_image, 6), (by_channel, 18)):
        factors = np.asarray(bright / image)
        assert np.all((factors > 0.5) & (factors < 1.5))
        np.testing.assert_allclose(factors, factors[:, :1, :1] + np.zeros_like(factors), rtol=1e-5)
        assert len(np.unique(factors[:, 0, 0].round(4))) == draws
    x = np.asarray(image, np.float64)
    mean = x.mean((1, 2), keepdims=True)
    transformed, same_mask = augment(KEY, image, mask, _settings(contrast=_fixed(0.5), per_channel=True))
    np.testing.assert_allclose(transformed, (x - mean) * 0.5 + mean, rtol=1e-5)
    np.testing.assert_array_equal(same_mask, mask)


def test_neighbouring_slices_of_a_channel_share_its_draw(pictures):
    """As many factors as a slice has channels, and in each image those of its slices are equal."""
    image, mask = pictures
    brightness = {"probability": 1.0, "range": (0.5, 1.5)}
    stacked = jnp.concatenate([image, image[:, ::-1], image], axis=-1)
    bright, _ = augment(KEY, stacked, mask, _settings(brightness=brightness, per_channel=True), 3)
    factors = np.asarray(bright / stacked)[:, 0, 0].reshape(6, 3, 3)
    assert len(np.unique(factors[:, 0].round(4))) == 18
    np.testing.assert_allclose(factors, factors[:, :1] + np.zeros_like(factors), rtol=1e-5)


def test_switching_others_on_leaves_the_flips_as_they_were(pictures):
    """The others are on, but with nothing to change."""
    others = dict.fromkeys(("brightness", "contrast", "gamma"), _fixed(1.0)) | _affine()
    alone, _ = augment(KEY, *pictures, _settings(flip_rows=0.5, flip_columns=0.5))
    among_others, _ = augment(KEY, *pictures, _settings(flip_rows=0.5, flip_columns=0.5, **others))
    np.testing.assert_allclose(among_others, alone, atol=1e-6)


def test_switching_others_on_leaves_the_intensities_as_they_were(pictures):
    """Whichever way a picture is turned, its sorted pixels are the same."""
    changes = {"brightness": {"probability": 0.5, "range": (0.5, 1.5)}}
    alone, _ = augment(KEY, *pictures, _settings(**changes))
    turned, _ = augment(KEY, *pictures, _settings(flip_rows=0.5, flip_columns=0.5, transpose=0.5, rot90=0.5, **changes))
    assert not np.array_equal(alone, turned)
    np.testing.assert_array_equal(*(np.sort(np.asarray(x).reshape(6, -1)) for x in (alone, turned)))


def test_every_slice_of_a_volume_moves_as_a_single_slice_would():
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 6, 6, 3)), jnp.float32)
    mask = (image[..., :1] > 0.5).astype(jnp.float32)
    settings = _settings(flip_rows=0.5, flip_columns=0.5, affine=EVERYTHING["affine"])
    expected = augment(KEY, image, mask, settings)
    volumes = (jnp.repeat(x[:, None], 4, axis=1) for x in (image, mask))
    for flat, volume in zip(expected, augment(KEY, *volumes, settings), strict=True):
        for number in range(4):
            np.testing.assert_allclose(volume[:, number], flat, atol=1e-6)


@pytest.mark.parametrize("name", ["rot90", "transpose"])
def test_turning_images_that_are_not_square_is_refused(name):
    image = jnp.zeros((1, 4, 6, 1))
    with pytest.raises(ValueError, match=r"square images; these are \(4, 6\)"):
        augment(KEY, image, image, _settings(**{name: 0.5}))
