import numpy as np
import pytest

from unet_jax.report import packed_masks

RANDOM = np.random.default_rng(0)


def _mask(shape, share):
    return (RANDOM.random(shape) < share).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (5, 16, 9)])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_a_mask_comes_back_as_it_was(shape, share):
    mask, numbers = _mask(shape, share), np.arange(shape[0]) * 2
    packed = packed_masks.pack(numbers, mask)
    np.testing.assert_array_equal(packed_masks.unpack(packed), mask)
    np.testing.assert_array_equal(packed.numbers, numbers)


def test_a_tumour_takes_little_memory():
    mask = np.zeros((60, 256, 256), np.uint8)
    mask[20:35, 80:140, 90:150] = _mask((15, 60, 60), 0.9)
    assert len(packed_masks.pack(np.arange(60), mask).data) < 54_000 / 2


def test_cases_pass_unchanged_and_one_at_a_time():
    masks = {3: _mask((2, 4, 4), 0.5), 1: _mask((1, 8, 8), 0.5)}
    kept = {}
    passing = packed_masks.keep(((n, np.arange(len(mask)), mask) for n, mask in masks.items()), kept)
    assert kept == {}
    for position, mask in masks.items():
        found = next(passing)
        assert found[0] == position
        assert found[2] is mask
        assert list(kept)[-1] == position
    for position, mask in masks.items():
        np.testing.assert_array_equal(packed_masks.unpack(kept[position]), mask)


def test_masks_travel_as_bytes():
    masks = {
        7: packed_masks.pack(np.arange(3), _mask((3, 9, 4), 0.3)),
        2: packed_masks.pack(np.array([5]), _mask((1, 2, 2), 0)),
    }
    for sent in (masks, {}):
        found = packed_masks.from_bytes(packed_masks.to_bytes(sent))
        assert list(found) == list(sent)
        for position, packed in sent.items():
            np.testing.assert_array_equal(packed_masks.unpack(found[position]), packed_masks.unpack(packed))
            np.testing.assert_array_equal(found[position].numbers, packed.numbers)
            assert found[position].box == packed.box
