import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import inference, sharding
from unet_jax.data.case import Case
from unet_jax.data.pipeline import Slices, evaluation_batches

SHARDING = sharding.by_batch(sharding.data_mesh())


def _segment(image):
    """Tumour where the first sequence is bright."""
    return (image[..., 0] > 128).astype(jnp.uint8)


def _case(name, depth, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (depth, 4, 6, 3), np.uint8)
    return Case(name, name, image, rng.integers(0, 2, (depth, 4, 6), np.uint8))


@pytest.fixture
def batches():
    return list(evaluation_batches(Slices([_case("a", 3, 0), _case("b", 4, 1)]), 4))


def _joined(results, key):
    return np.concatenate([result[key] for result in results])


def test_every_slice_comes_once_in_order_with_its_prediction(batches):
    results = list(inference.segment_batches(_segment, batches, SHARDING))
    assert [len(result["predicted"]) for result in results] == [4, 3]  # the last batch's padding is dropped
    np.testing.assert_array_equal(_joined(results, "case"), [0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(_joined(results, "slice"), [0, 1, 2, 0, 1, 2, 3])
    image = np.concatenate([_case("a", 3, 0).image, _case("b", 4, 1).image])
    np.testing.assert_array_equal(_joined(results, "image"), image)
    np.testing.assert_array_equal(_joined(results, "predicted"), image[..., 0] > 128)
    mask = np.concatenate([_case("a", 3, 0).mask, _case("b", 4, 1).mask])
    np.testing.assert_array_equal(_joined(results, "mask"), mask)
    assert all(isinstance(result["predicted"], np.ndarray) for result in results)


def test_no_batches_give_no_results():
    assert list(inference.segment_batches(_segment, [], SHARDING)) == []


def test_the_next_batch_is_under_way_before_a_result_is_handed_out(batches):
    sent = []

    def segment(image):
        sent.append(len(sent))
        return _segment(image)

    results = inference.segment_batches(segment, [*batches, *batches], SHARDING)
    under_way = []
    for _ in results:
        under_way.append(len(sent))
    assert under_way == [2, 3, 4, 4]


def test_the_image_lies_on_the_devices_when_it_is_segmented(batches):
    def segment(image):
        assert isinstance(image, jax.Array)
        assert image.sharding == SHARDING
        assert image.dtype == jnp.uint8
        return _segment(image)

    assert len(list(inference.segment_batches(segment, batches, SHARDING))) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8, 20])
def test_a_volume_is_segmented_as_its_slices_are_for_any_batch_size(batch_size):
    image = _case("a", 7).image
    predicted = inference.segment_volume(_segment, image, batch_size, SHARDING)
    assert predicted.dtype == np.uint8
    np.testing.assert_array_equal(predicted, image[..., 0] > 128)


def test_every_batch_of_a_volume_has_one_size():
    sizes = []

    def segment(image):
        sizes.append(image.shape)
        return _segment(image)

    inference.segment_volume(segment, _case("a", 7).image, 3, SHARDING)
    assert sizes == [(3, 4, 6, 3)] * 3


def test_a_memory_mapped_volume_of_floats_is_segmented(tmp_path):
    image = np.random.default_rng(0).uniform(0, 256, (3, 4, 6, 1)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    np.testing.assert_array_equal(inference.segment_volume(_segment, mapped, 2, SHARDING), image[..., 0] > 128)
