import contextlib
import itertools
import threading
import time

import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.data.slices import all_slices
from unet_jax.errors import InputError, StuckError
from unet_jax.runtime.mesh import data_mesh
from unet_jax.training import feed, resident, samples

MESH = data_mesh()


def _waiting(*, drawn, ends_with=None, closed=None):
    """Numbers from 0, each noted as it is drawn; after three of them `ends_with` is raised."""
    try:
        for number in itertools.count():
            if ends_with is not None and number == 3:
                raise ends_with
            drawn.append(number)
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def _settled(drawn):
    """How many are drawn once nothing moves any more."""
    before = -1
    while before != len(drawn):
        before = len(drawn)
        time.sleep(0.05)
    return before


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_are_drawn_ahead_than_asked_for(most):
    drawn, closed = [], []
    with contextlib.closing(feed.drawn_ahead(_waiting(drawn=drawn, closed=closed), most)) as items:
        for number in range(4):
            assert next(items) == number
            assert _settled(drawn) == number + 1 + most
    assert closed == [threading.main_thread().name]
    assert "batches ahead" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("error", [InputError("as it is"), StuckError("a worker died"), KeyError("k")])
def test_what_drawing_raises_comes_as_itself_after_what_was_drawn(error):
    drawn = []
    items = feed.drawn_ahead(_waiting(drawn=drawn, ends_with=error), 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as found:
        next(items)
    assert found.value is error
    assert "batches ahead" not in {thread.name for thread in threading.enumerate()}


def test_the_end_comes_in_its_place():
    assert list(feed.drawn_ahead((number for number in range(5)), 3)) == [0, 1, 2, 3, 4]


def test_what_is_closed_before_it_is_drawn_from_starts_no_thread():
    drawn = []
    feed.drawn_ahead(_waiting(drawn=drawn), 2).close()
    assert drawn == []


def _of_mixed_sizes():
    rng = np.random.default_rng(0)
    return [
        Case(
            name,
            name,
            rng.integers(0, 256, (5, side, side, 3), np.uint8),
            rng.integers(0, 2, (5, side, side), np.uint8),
        )
        for name, side in (("a", 8), ("b", 6))
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.slab": 3},
        {"data.neighbours": 1, "data.tumour_share": 0.5},
        {"border_weights.w0": 5.0},
    ],
)
def test_resident_batches_are_those_of_the_host_to_the_bit(configure, settings, monkeypatch, changes):
    """Ten slices in parts of four, images of two sizes, from the second step on."""
    monkeypatch.setattr(resident, "PART", 4)
    cases, counts = _of_mixed_sizes(), [1, 3, 1]
    index = {"train": all_slices(cases)}
    found = {}
    for choice in ("never", "must"):
        config = configure(settings | changes | {"data.resident": choice, "data.ahead": 2, "train.epochs": 3})
        sampled = samples.of_slices(config, cases, index)
        with feed.opened(config, sampled, MESH, 1, iter(counts)) as fed:
            found[choice] = list(fed)
    for host, device in zip(found["never"], found["must"], strict=True):
        assert host.on_device.keys() == device.on_device.keys() >= {"image", "mask", "size"}
        for key, array in host.on_device.items():
            assert array.dtype == device.on_device[key].dtype
            assert array.sharding.is_equivalent_to(device.on_device[key].sharding, array.ndim)
            np.testing.assert_array_equal(array, device.on_device[key])
        for here, there in zip(host.seen, device.seen, strict=True):
            np.testing.assert_array_equal(here, there)
    assert [fed.steps for fed in found["must"]] == counts
    assert found["must"][1].on_device["image"].shape[:2] == (3, settings["train.batch_size"])


def test_slices_stay_on_the_device_only_where_there_is_room(monkeypatch, configure, settings):
    cases = _of_mixed_sizes()
    slices = samples.of_slices(configure(settings), cases, {"train": all_slices(cases)}).slices
    size = 10 * (8 * 8 * 4 + 2 * 4)
    assert resident.bytes_of(slices) == size
    assert not resident.is_wanted("auto", slices)  # a CPU does not say how much there is
    for free, expected in ((size / resident.SHARE, True), (size / resident.SHARE - 1, False)):
        monkeypatch.setattr(resident, "free_bytes", lambda: int(free))  # noqa: B023
        assert resident.is_wanted("auto", slices) == expected
    assert not resident.is_wanted("never", slices)
    assert not resident.is_wanted("auto", None)


def test_patches_cannot_stay_on_the_device():
    with pytest.raises(InputError, match="'must', and patches are cut on the host"):
        resident.check("must", has_patches=True)
    resident.check("auto", has_patches=True)
