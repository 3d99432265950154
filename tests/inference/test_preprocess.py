import jax
import jax.numpy as jnp
import numpy as np
import pytest
from traced import equations, imprecise_products

from unet_jax.data.case import Case
from unet_jax.data.slices import Slices
from unet_jax.inference import preprocess

# Compiled, as they are used.
prepare_image = jax.jit(preprocess.prepare_image, static_argnums=1)
prepare_mask = jax.jit(preprocess.prepare_mask, static_argnums=(1, 2))
prepare_weights = jax.jit(preprocess.prepare_weights, static_argnums=1)
restore_logits = jax.jit(preprocess.restore_logits, static_argnums=(1, 2))

RANDOM_SIZES = np.random.default_rng(0).integers((20, 20, 12), (40, 40, 50), (6, 3)).tolist()
# Pixels. A triangle that is no whole number of pixels wide bends a straight line, by up to 0.0858 of a pixel over
# all pairs of sizes from 10 to 50; a pixel's corner taken for its centre would be wrong by half a pixel.
TRIANGLE = 0.0859


def _linear(n, size):
    """Weights [size, n] of a triangle over the n old pixels, centred on each new one and as wide as it."""
    centres = (np.arange(size) + 0.5) * n / size - 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(n)) / max(n / size, 1))
    return weights / weights.sum(1, keepdims=True)


def test_uint8_becomes_0_to_1():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    prepared = prepare_image(jnp.asarray(image), 16)
    assert prepared.dtype == jnp.float32
    np.testing.assert_allclose(prepared, image / 255.0, rtol=1e-7)


def test_floats_of_the_right_size_pass_as_they_are():
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32) * 100
    np.testing.assert_array_equal(prepare_image(jnp.asarray(image), 8), image)


def test_a_mask_of_the_right_size_passes_as_it_is():
    mask = np.random.default_rng(0).integers(0, 2, (2, 8, 8), np.uint8)
    prepared = prepare_mask(jnp.asarray(mask), 8)
    assert prepared.dtype == jnp.float32
    np.testing.assert_array_equal(prepared[..., 0], mask)


def test_a_mask_of_several_classes_has_a_channel_for_each():
    mask = np.random.default_rng(0).integers(0, 4, (2, 8, 6), np.uint8)
    prepared = np.asarray(prepare_mask(jnp.asarray(mask), 8, 3))
    assert prepared.dtype == np.float32
    expected = np.zeros((2, 8, 8, 3), np.float32)
    for number in (1, 2, 3):
        expected[:, :, 1:7, number - 1] = mask == number
    np.testing.assert_array_equal(prepared, expected)


def test_a_shrunk_pixel_is_of_the_class_with_the_largest_share():
    """Where only one class lies, it is the mask of that class alone."""
    mask = np.random.default_rng(1).integers(0, 2, (3, 16, 16), np.uint8)
    alone = np.asarray(prepare_mask(jnp.asarray(mask), 8))
    found = np.asarray(prepare_mask(jnp.asarray(2 * mask), 8, 3))
    np.testing.assert_array_equal(found[..., 1:2], alone)
    assert not found[..., [0, 2]].any()
    # Four rows of one class over four of another: the edge lies between two new pixels.
    halves = np.repeat(np.array([1, 3], np.uint8), 8)[None, :, None].repeat(16, 2)
    found = np.asarray(prepare_mask(jnp.asarray(halves), 8, 3))
    assert (found[0, :4, :, 0] == 1).all()
    assert (found[0, 4:, :, 2] == 1).all()
    assert (found.sum(-1) == 1).all()


@pytest.mark.parametrize(("height", "width", "top", "left"), [(4, 7, 1, 0), (7, 4, 0, 1), (5, 7, 1, 0)])
def test_the_shorter_axis_is_padded_with_zeros_on_both_sides(height, width, top, left):
    image = np.ones((1, height, width, 2), np.float32)
    expected = np.zeros((1, 7, 7, 2), np.float32)
    expected[:, top : top + height, left : left + width] = 1
    np.testing.assert_array_equal(prepare_image(jnp.asarray(image), 7), expected)
    mask = np.ones((1, height, width), np.uint8)
    np.testing.assert_array_equal(prepare_mask(jnp.asarray(mask), 7), expected[..., :1])


def test_doubling_by_hand():
    rows = np.array([[0, 4], [0, 4]], np.float32)[None, :, :, None]
    np.testing.assert_allclose(prepare_image(jnp.asarray(rows), 4)[0, :, :, 0], [[0, 1, 3, 4]] * 4, atol=1e-6)


def test_halving_by_hand():
    rows = np.tile(np.array([1, 2, 4, 8], np.float32), (4, 1))[None, :, :, None]
    expected = [[(3 * 1 + 3 * 2 + 4) / 7, (2 + 3 * 4 + 3 * 8) / 7]] * 2
    np.testing.assert_allclose(prepare_image(jnp.asarray(rows), 2)[0, :, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(("n", "size"), [(5, 8), (8, 5), (12, 6), (6, 18)])
def test_images_are_resized_linearly(n, size):
    image = np.random.default_rng(n).normal(size=(2, n, n, 3)).astype(np.float32)
    weights = _linear(n, size)
    expected = np.einsum("ih,bhwc,jw->bijc", weights, image, weights)
    np.testing.assert_allclose(prepare_image(jnp.asarray(image), size), expected, atol=1e-5)


@pytest.mark.parametrize(("n", "size"), [(5, 8), (8, 5), (12, 6)])
def test_a_mask_is_1_where_its_resized_image_reaches_a_half(n, size):
    mask = np.random.default_rng(n).integers(0, 2, (4, n, n), np.uint8)
    weights = _linear(n, size)
    share = np.einsum("ih,bhw,jw->bij", weights, mask, weights)
    clear = np.abs(share - 0.5) > 1e-5  # where rounding decides nothing
    assert clear.mean() > 0.8
    prepared = np.asarray(prepare_mask(jnp.asarray(mask), size))[..., 0]
    np.testing.assert_array_equal(prepared[clear], share[clear] >= 0.5)


def test_pixel_weights_are_resized_linearly_and_0_around_the_image():
    weights = np.random.default_rng(0).uniform(1, 2, (2, 8, 12)).astype(np.float32)
    padded = np.pad(weights, [(0, 0), (2, 2), (0, 0)])
    np.testing.assert_array_equal(prepare_weights(jnp.asarray(weights), 12)[..., 0], padded)
    halve = _linear(12, 6)
    expected = np.einsum("ih,bhw,jw->bij", halve, padded, halve)
    np.testing.assert_allclose(prepare_weights(jnp.asarray(weights), 6)[..., 0], expected, atol=1e-6)


def test_every_slice_of_a_volume_is_prepared_and_restored_as_a_single_one_would_be():
    volume = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 12, 2), np.uint8)
    flat = volume.reshape(6, 8, 12, 2)
    mask = (volume[..., 0] > 128).astype(np.uint8)
    prepared = prepare_image(jnp.asarray(volume), 9)
    np.testing.assert_array_equal(prepared.reshape(6, 9, 9, 2), prepare_image(jnp.asarray(flat), 9))
    mask_of_slices = prepare_mask(jnp.asarray(mask.reshape(6, 8, 12)), 9)
    np.testing.assert_array_equal(prepare_mask(jnp.asarray(mask), 9).reshape(6, 9, 9, 1), mask_of_slices)
    restored = restore_logits(prepared, 8, 12).reshape(6, 8, 12, 2)
    np.testing.assert_array_equal(restored, restore_logits(prepared.reshape(6, 9, 9, 2), 8, 12))


@pytest.mark.parametrize(("edge", "halved"), [(6, 3), (7, 3), (8, 4)])
def test_a_halved_mask_keeps_a_pixel_that_it_covers_by_half(edge, halved):
    """Tumour from row `edge` of 16 on; an edge inside a new pixel leaves half of it covered."""
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[:, edge:] = 1
    expected = np.zeros((8, 8))
    expected[halved:] = 1
    np.testing.assert_array_equal(prepare_mask(jnp.asarray(mask), 8)[0, :, :, 0], expected)


@pytest.mark.parametrize(("height", "width", "size"), RANDOM_SIZES)
def test_every_new_pixel_shows_the_place_it_stands_for(height, width, size):
    """An image of its own row and column numbers: linear interpolation keeps them, away from the border."""
    side = max(height, width)
    image = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)[None]
    prepared = prepare_image(jnp.asarray(image, jnp.float32), size)[0]
    reach = max(side / size, 1)
    places, inside = [], []
    for n in (height, width):
        place = (np.arange(size) + 0.5) * side / size - 0.5 - (side - n) // 2
        places.append(place)
        inside.append((place >= reach) & (place <= n - 1 - reach))
    inside = np.ix_(*inside)
    expected = np.stack(np.meshgrid(*places, indexing="ij"), -1)[inside]
    assert expected.size
    np.testing.assert_allclose(np.asarray(prepared)[inside], expected, atol=TRIANGLE)


@pytest.mark.parametrize(("height", "width", "size"), RANDOM_SIZES)
def test_restored_logits_lie_where_the_image_had_them(height, width, size):
    """Logits that say which row and column of the image they stand for come back at that row and column."""
    side = max(height, width)
    place = [(np.arange(size) + 0.5) * side / size - 0.5 - (side - n) // 2 for n in (height, width)]
    logits = np.stack(np.meshgrid(*place, indexing="ij"), -1)[None]
    restored = np.asarray(restore_logits(jnp.asarray(logits, jnp.float32), height, width))[0]
    assert restored.shape == (height, width, 2)
    reach = max(size / side, 1)
    inside = []
    for n in (height, width):
        at = (np.arange(n) + (side - n) // 2 + 0.5) * size / side - 0.5
        inside.append((at >= reach) & (at <= size - 1 - reach))
    inside = np.ix_(*inside)
    expected = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)[inside]
    assert expected.size
    np.testing.assert_allclose(restored[inside], expected, atol=TRIANGLE)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (9, 6), (4, 9), (1, 9)])
def test_restoring_undoes_preparing_exactly_where_nothing_is_resized(height, width):
    image = np.random.default_rng(0).normal(size=(2, height, width, 1)).astype(np.float32)
    prepared = prepare_image(jnp.asarray(image), 9)
    np.testing.assert_array_equal(restore_logits(prepared, height, width), image)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda image, mask, weights: preprocess.prepare_image(image, 8),
        lambda image, mask, weights: preprocess.prepare_mask(mask, 8),
        lambda image, mask, weights: preprocess.prepare_mask(mask, 8, 3),
        lambda image, mask, weights: preprocess.prepare_weights(weights, 8),
        lambda image, mask, weights: preprocess.restore_logits(weights[..., None], 12, 10),
    ],
)
def test_no_device_resizes_in_reduced_precision(prepare):
    """Resizing is a matrix product, which a GPU and a TPU round to TF32 or bfloat16 unless told otherwise."""
    arguments = (
        jax.ShapeDtypeStruct((2, 9, 9, 3), jnp.uint8),
        jax.ShapeDtypeStruct((2, 9, 9), jnp.uint8),
        jax.ShapeDtypeStruct((2, 9, 9), jnp.float32),
    )
    names = [one.primitive.name for one in equations(jax.make_jaxpr(prepare)(*arguments).jaxpr)]
    assert "dot_general" in names
    assert not imprecise_products(prepare, *arguments)


@pytest.mark.parametrize("size", [16, 32, 56])
@pytest.mark.parametrize("canvas", [(40, 40), (24, 40), (40, 21)])
def test_images_of_mixed_sizes_become_in_a_batch_what_they_become_alone(canvas, size):
    rng = np.random.default_rng(0)
    sizes = np.array([(rng.integers(4, canvas[0] + 1), rng.integers(4, canvas[1] + 1)) for _ in range(7)] + [canvas])
    images, masks = np.zeros((8, *canvas, 3), np.uint8), np.zeros((8, *canvas), np.uint8)
    for number, (height, width) in enumerate(sizes):
        images[number, :height, :width] = rng.integers(0, 256, (height, width, 3))
        # Blocks of one class: where the shares of two are equal, either may be the larger after rounding.
        blocks = rng.integers(0, 3, (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)
        masks[number, :height, :width] = blocks[:height, :width]
    sizes = sizes.astype(np.int32)
    together = preprocess.prepare_image(jnp.asarray(images), size, jnp.asarray(sizes))
    together_masks = preprocess.prepare_mask(jnp.asarray(masks), size, 2, jnp.asarray(sizes))
    for number, (height, width) in enumerate(sizes.tolist()):
        alone = preprocess.prepare_image(jnp.asarray(images[number, :height, :width]), size)
        np.testing.assert_allclose(together[number], alone, atol=5e-6)
        mask = preprocess.prepare_mask(jnp.asarray(masks[number, :height, :width]), size, 2)
        assert (np.asarray(together_masks[number]) != np.asarray(mask)).mean() < 0.01


@pytest.mark.parametrize(("canvas", "size"), [((40, 30), 16), ((20, 24), 24), ((64, 64), 24)])
def test_logits_of_mixed_sizes_are_restored_in_a_batch_as_they_are_alone(canvas, size):
    rng = np.random.default_rng(sum(canvas))
    sizes = np.array([(rng.integers(1, canvas[0] + 1), rng.integers(1, canvas[1] + 1)) for _ in range(3)] + [canvas])
    logits = rng.normal(size=(len(sizes), size, size, 2)).astype(np.float32)
    slabs = jnp.asarray(np.stack([logits, logits[::-1]], axis=1))
    together = preprocess.restore_logits(jnp.asarray(logits), *canvas, jnp.asarray(sizes, jnp.int32))
    of_slabs = preprocess.restore_logits(slabs, *canvas, jnp.asarray(sizes, jnp.int32))
    assert together.shape == (len(sizes), *canvas, 2)
    assert np.isfinite(together).all()
    for number, (height, width) in enumerate(sizes.tolist()):
        alone = restore_logits(jnp.asarray(logits[number : number + 1]), height, width)[0]
        np.testing.assert_allclose(together[number, :height, :width], alone, atol=2e-5)
        np.testing.assert_allclose(of_slabs[number, 0, :height, :width], alone, atol=2e-5)


def test_slabs_of_mixed_sizes_are_resized_slice_by_slice():
    rng = np.random.default_rng(1)
    slabs = np.zeros((2, 3, 12, 10, 1), np.float32)
    slabs[0] = rng.random((3, 12, 10, 1))
    slabs[1, :, :6, :7] = rng.random((3, 6, 7, 1))
    found = preprocess.prepare_image(jnp.asarray(slabs), 8, jnp.asarray([(12, 10), (6, 7)], jnp.int32))
    for number, (height, width) in enumerate([(12, 10), (6, 7)]):
        alone = preprocess.prepare_image(jnp.asarray(slabs[number, :, :height, :width]), 8)
        np.testing.assert_allclose(found[number], alone, atol=1e-6)


def test_a_case_is_trained_on_at_the_scale_at_which_it_is_predicted():
    """A square of 64 pixels beside one of 256 fills the network's input as it does alone."""
    rng = np.random.default_rng(2)
    cases = [
        Case(name, name, rng.integers(0, 256, (2, side, side, 3), np.uint8), np.ones((2, side, side), np.uint8))
        for name, side in (("small", 64), ("large", 256))
    ]
    batch = Slices(cases).gather([1, 2])
    seen = preprocess.prepare_image(jnp.asarray(batch["image"]), 32, jnp.asarray(batch["size"]))
    masks = preprocess.prepare_mask(jnp.asarray(batch["mask"]), 32, 1, jnp.asarray(batch["size"]))
    for row, image in enumerate((cases[0].image[1], cases[1].image[0])):
        np.testing.assert_allclose(seen[row], preprocess.prepare_image(jnp.asarray(image), 32), atol=1e-6)
    assert masks.all()
    assert "size" not in Slices(cases[:1]).gather([0])


@pytest.mark.parametrize(
    ("pixels", "expected"), [([1, 2, 2, 0], 2), ([1, 1, 2, 0], 1), ([1, 1, 2, 2], 2), ([2, 0, 0, 0], 0)]
)
def test_a_resized_pixel_is_ignored_where_that_has_the_largest_share_or_one_of_them(pixels, expected):
    """What is ignored is the last class."""
    mask = np.array(pixels, np.uint8).reshape(2, 2)
    # An image of such blocks alone, so that every neighbour is the same.
    whole = np.tile(mask, (1, 8, 8))
    assert int(prepare_mask(jnp.asarray(whole), 8, 2)[0, 4, 4] @ jnp.array([1.0, 2.0])) == expected
