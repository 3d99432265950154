import dataclasses
import tracemalloc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.data.slices import Slices
from unet_jax.inference import segment as inference
from unet_jax.inference.settings import SegmentSettings
from unet_jax.inference.windows import Wanted
from unet_jax.metrics import overlap
from unet_jax.plan import run_plan
from unet_jax.runtime import mesh

SHARDING = mesh.by_batch(mesh.data_mesh())


def _brightness(image):
    """Each pixel's probability is its own first sequence, whatever stands around it."""
    return image[..., 0].astype(jnp.float32) / 255


def _case(name, depth, height=4, width=6, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (depth, height, width, 3), np.uint8)
    return Case(name, name, image, np.zeros((depth, height, width), np.uint8))


def _index(*slices):
    """(position in cases, slice), from the slices of each case in turn."""
    return np.array([(position, number) for position, its in enumerate(slices) for number in its], np.int32)


def _settings(batch_size=4, threshold=0.5, **options):
    return SegmentSettings(batch_size=batch_size, threshold=threshold, sharding=SHARDING, **options)


def _segment(cases, index, *, probability=_brightness, **options):
    predicted = inference.segment_cases(probability, cases, index, _settings(**options), title="")
    return {position: (slices.tolist(), mask) for position, slices, mask in predicted}


def _bright(case, slices, threshold=0.5):
    return case.image[slices, :, :, 0] / 255 >= threshold


CASES = [_case("a", 3, seed=1), _case("b", 5, seed=2), _case("c", 1, seed=3)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 9, 20])
def test_every_slice_is_segmented_as_it_would_be_alone_for_any_batch_size(batch_size):
    found = _segment(CASES, _index(range(3), range(5), range(1)), batch_size=batch_size)
    assert list(found) == [0, 1, 2]
    for position, case in enumerate(CASES):
        slices, mask = found[position]
        assert slices == list(range(len(case.image)))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, _bright(case, slices))


@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_what_the_network_sees_is_what_it_is_trained_on(neighbours):
    """The last slice of one case stands beside the first of the next in a batch, and not among its channels."""
    seen = []

    def probability(image):
        seen.append(np.asarray(image))
        return _brightness(image)

    index = _index(range(3), [0, 3, 4], range(1))
    done = inference.segment_cases(probability, CASES, index, _settings(neighbours=neighbours), title="")
    assert [position for position, *_ in done] == [0, 1, 2]
    trained_on = Slices(CASES, index, neighbours=neighbours).gather(range(len(index)))["image"]
    np.testing.assert_array_equal(np.concatenate(seen)[: len(index)], trained_on)


def test_a_tile_has_the_neighbours_of_its_own_place():
    case, sizes = _case("a", 3, 6, 6), []

    def probability(image):
        sizes.append(image.shape[1:])
        return jnp.abs(image[..., 3:6].astype(jnp.float32) - image[..., 6:9]).max(-1) / 255

    found = _segment([case], _index([0, 1]), probability=probability, tile=4, neighbours=1)
    differences = np.abs(case.image[:2].astype(int) - case.image[1:]).max(-1)
    np.testing.assert_array_equal(found[0][1], differences / 255 >= 0.5)
    assert set(sizes) == {(4, 4, 9)}


def test_only_the_slices_that_are_asked_for_are_segmented():
    shapes = []

    def probability(image):
        shapes.append(image.shape)
        return _brightness(image)

    found = _segment(CASES, _index([0, 2], [], [0]), probability=probability, batch_size=2)
    assert shapes == [(2, 4, 6, 3)] * 2  # three slices; batches keep their size
    assert {position: slices for position, (slices, _) in found.items()} == {0: [0, 2], 2: [0]}
    np.testing.assert_array_equal(found[0][1], _bright(CASES[0], [0, 2]))
    np.testing.assert_array_equal(found[2][1], _bright(CASES[2], [0]))


def test_cases_of_different_sizes_are_segmented_at_their_own():
    cases = [_case("a", 2, 4, 6), _case("b", 3, 5, 5), _case("c", 1, 4, 6)]
    shapes = []

    def probability(image):
        shapes.append(image.shape[1:3])
        return _brightness(image)

    found = _segment(cases, _index(range(2), range(3), range(1)), probability=probability)
    assert shapes == [(4, 6), (5, 5)]
    assert sorted(found) == [0, 1, 2]
    for position, (slices, mask) in found.items():
        np.testing.assert_array_equal(mask, _bright(cases[position], slices))


@pytest.mark.parametrize(("threshold", "tumour"), [(0.5, 1), (0.501, 0)])
def test_a_probability_of_just_the_threshold_is_tumour(threshold, tumour):
    def half(image):
        return jnp.full(image.shape[:-1], 0.5)

    for slab in (None, 2):
        [(_, mask)] = _segment(CASES[:1], _index(range(3)), probability=half, slab=slab, threshold=threshold).values()
        assert (mask == tumour).all()


def test_the_next_batch_is_under_way_before_a_result_is_handed_out():
    sent = []

    def probability(image):
        sent.append(len(sent))
        return _brightness(image)

    cases = [_case(name, 2) for name in "abcd"]
    predicted = inference.segment_cases(probability, cases, _index(*[range(2)] * 4), _settings(batch_size=2), title="")
    assert [len(sent) for _ in predicted] == [2, 3, 4, 4]


def test_the_image_is_on_the_devices_in_the_files_own_type():
    def probability(image):
        assert isinstance(image, jax.Array)
        assert image.sharding == SHARDING
        assert image.dtype == jnp.uint8
        return _brightness(image)

    assert len(_segment(CASES, _index(range(3), range(5)), probability=probability)) == 2


def test_a_memory_mapped_case_of_floats_is_segmented(tmp_path):
    image = np.random.default_rng(0).uniform(0, 255, (3, 4, 6, 1)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    case = Case("a", "a", np.load(tmp_path / "image.npy", mmap_mode="r"), np.zeros((3, 4, 6), np.uint8))
    [(_, mask)] = _segment([case], _index(range(3))).values()
    np.testing.assert_array_equal(mask, image[..., 0] / 255 >= 0.5)


@pytest.mark.parametrize("depth", [1, 2, 4, 5, 6, 7, 9, 12])
@pytest.mark.parametrize("slab", [1, 3, 4])
def test_slabs_cover_every_slice_of_a_volume(depth, slab):
    """What depends on its own pixel alone comes out the same, however slabs overlap; short cases are filled up."""
    shapes = set()

    def probability(image):
        shapes.add(image.shape)
        return _brightness(image)

    case = _case("a", depth)
    [(slices, mask)] = _segment([case], _index(range(depth)), probability=probability, slab=slab).values()
    assert shapes == {(4, slab, 4, 6, 3)}
    # A mean of equal numbers may round to either side of the threshold.
    clear = np.abs(case.image[..., 0] / 255 - 0.5) > 1e-5
    np.testing.assert_array_equal(mask[clear], _bright(case, slices)[clear])


def test_overlapping_slabs_are_averaged_with_gaussian_weights():
    """Slabs of 4 that start at 0, 2 and 3 of 7 slices; the network's answer is the place within the slab."""

    def place(image):
        places = jnp.arange(image.shape[1], dtype=jnp.float32) / 4
        return jnp.broadcast_to(places[None, :, None, None], image.shape[:-1])

    weights = np.exp(-0.5 * ((np.arange(4) - 1.5) / 0.5) ** 2)
    total, weight = np.zeros(7), np.zeros(7)
    for start in (0, 2, 3):
        total[start : start + 4] += weights * np.arange(4) / 4
        weight[start : start + 4] += weights
    expected = total / weight
    for threshold in np.sort(expected)[1:] - 1e-3:
        [(_, mask)] = _segment(
            [_case("a", 7)], _index(range(7)), probability=place, slab=4, threshold=threshold
        ).values()
        np.testing.assert_array_equal(mask[:, 0, 0], expected >= threshold)


def test_cases_without_masks_of_all_sizes_come_out_in_order():
    cases = [dataclasses.replace(_case(str(n), 1 + n % 3, 4 + n % 2, 6, n), mask=None) for n in range(9)]
    wanted = (Wanted(n, case, np.arange(len(case.image))) for n, case in enumerate(cases))
    found = list(inference.segment_stream(_brightness, wanted, _settings(), keep_probabilities=True))
    assert [done.wanted.position for done in found] == list(range(9))
    for case, done in zip(cases, found, strict=True):
        np.testing.assert_array_equal(done.mask, _bright(case, range(len(case.image))))
        np.testing.assert_allclose(done.probability, case.image[..., 0] / 255, rtol=1e-6)


def test_tiles_reach_the_network_at_their_own_size_and_fill_its_batches():
    shapes = []

    def probability(image):
        shapes.append(image.shape)
        return _brightness(image)

    case = _case("a", 2, 10, 6)
    found = _segment([case], _index(range(2)), probability=probability, tile=4)
    # Rows start at 0, 2, 4 and 6, columns at 0 and 2: 16 windows.
    assert shapes == [(4, 4, 4, 3)] * 4
    clear = np.abs(case.image[..., 0] / 255 - 0.5) > 1e-5
    np.testing.assert_array_equal(found[0][1][clear], _bright(case, range(2))[clear])


def test_with_flips_the_network_sees_the_image_and_its_mirror_images():
    """What it answers with is 1 in the first row and column as it sees them."""

    def corner(image):
        return jnp.zeros(image.shape[:-1]).at[:, 0, 0].set(1.0)

    case = _case("a", 1, 3, 3)
    expected = {(): {(0, 0)}, ("columns",): {(0, 0), (0, 2)}, ("rows", "columns"): {(0, 0), (0, 2), (2, 0), (2, 2)}}
    for flips, corners in expected.items():
        settings = _settings(flips=flips, threshold=1 / len(corners))
        [done] = inference.segment_stream(corner, [Wanted(0, case, np.arange(1))], settings, keep_probabilities=True)
        assert set(map(tuple, np.argwhere(done.mask[0]).tolist())) == corners
        assert done.probability.max() == 1 / len(corners)


def test_a_thousand_slices_are_never_held_together():
    """250 cases of 4 slices of 256×256, 65 MB of pixels, made when they are drawn."""
    made, most = [], []

    def wanted():
        for number in range(250):
            case = Case(str(number), "a", np.zeros((4, 256, 256, 1), np.uint8), None)
            made.append(weakref.ref(case.image))
            most.append(sum(image() is not None for image in made))
            yield Wanted(number, case, np.arange(4))

    answer = jnp.zeros((8, 256, 256))
    tracemalloc.start()
    try:
        found = inference.segment_stream(lambda image: answer, wanted(), _settings(batch_size=8))
        count = sum(len(done.mask) for done in found)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 1000
    assert max(most) <= 8
    assert peak < 12e6


@pytest.mark.parametrize(
    ("patch", "spacing"), [((16, 16, 16), (1.7, 1.4, 1.3)), ((16, 16, 16), None), ((24, 16), (1.7, 1.4))], ids=str
)
def test_a_case_is_resampled_and_comes_back(configure, tmp_path, patch, spacing):
    """A network that answers with the intensities finds the ball, whatever its patches and their spacing."""
    grid = np.stack(np.meshgrid(*map(np.arange, (36, 44, 40)), indexing="ij"), axis=-1)
    mask = (np.linalg.norm(grid - (16, 25, 19), axis=-1) < 12).astype(np.uint8)
    case = Case("ball", "ball", (50.0 + 100 * mask[..., None]).astype(np.float32), mask, (1.0, 1.0, 1.0))
    data = DataSet([case], {}, "", {}, channel_names=("MRI",))
    config = configure({"data.source": "phantom", "data.patch": patch, "data.spacing": spacing, "train.batch_size": 3})
    _, plan = run_plan.resolve(config, data, tmp_path)
    settings = SegmentSettings.of(config, mesh.data_mesh(), plan)
    middle = (100 - case.image.mean()) / case.image.std()

    def by_intensity(window):
        assert window.shape == (3, *patch, 1)
        return np.concatenate([np.zeros_like(window), window - middle], axis=-1)

    wanted = [Wanted(0, case, np.arange(36)), Wanted(1, case, np.array([3, 17, 18]))]
    whole, some = inference.segment_stream(by_intensity, wanted, settings, keep_probabilities=True)
    assert (whole.mask.shape, whole.mask.dtype) == (mask.shape, np.uint8)
    assert overlap.dice(overlap.count(whole.mask, mask).sum(0)) > (0.95 if spacing else 0.9999)
    np.testing.assert_array_equal(some.mask, whole.mask[[3, 17, 18]])
    np.testing.assert_array_equal(whole.probability > 0.5, whole.mask > 0)
    assert some.probability.shape == (3, 44, 40)
