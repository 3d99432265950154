import itertools
import pickle

import numpy as np
import pytest
from absl import flags

from unet_jax.data import cache, pipeline
from unet_jax.data.case import Case
from unet_jax.data.formats import lgg
from unet_jax.data.slices import Slices
from unet_jax.errors import InputError, StuckError


def _cases(depths, height=2, width=3, name="case"):
    """Pixel [row, column, channel] of slice s of case i is 20 i + s; its mask is s modulo 2."""
    cases = []
    for i, depth in enumerate(depths):
        number = np.arange(depth, dtype=np.uint8)[:, None, None, None]
        image = np.broadcast_to(20 * i + number, (depth, height, width, 3)).copy()
        mask = np.broadcast_to(number[..., 0] % 2, (depth, height, width)).copy()
        cases.append(Case(f"{name}{i}", f"patient{i}", image, mask))
    return cases


def _drawn(batches):
    return [list(zip(batch["case"].tolist(), batch["slice"].tolist(), strict=True)) for batch in batches]


def _all_drawn(batches):
    return list(itertools.chain.from_iterable(_drawn(batches)))


def _assert_same(some, others):
    some, others = list(some), list(others)
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture
def _parsed_flags():
    """Grain's worker processes ask for absl's flags, which a program started by absl.app has parsed."""
    was_parsed = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not was_parsed:
        flags.FLAGS.unparse_flags()


def test_gather_takes_the_slices_it_is_asked_for():
    batch = Slices(_cases([3, 5, 2])).gather([4, 0, 9])
    assert batch["case"].tolist() == [1, 0, 2]
    assert batch["slice"].tolist() == [1, 0, 1]
    assert batch["image"].shape == (3, 2, 3, 3)
    assert (batch["image"] == np.array([21, 0, 41])[:, None, None, None]).all()
    assert (batch["mask"] == np.array([1, 0, 1])[:, None, None]).all()
    types = {name: array.dtype.name for name, array in batch.items()}
    assert types == {"image": "uint8", "mask": "uint8", "case": "int32", "slice": "int32"}


def test_a_given_index_chooses_the_slices():
    slices = Slices(_cases([3, 5]), np.array([[1, 4], [0, 2]], np.int32))
    assert len(slices) == 2
    assert slices.gather([0, 1])["image"][:, 0, 0, 0].tolist() == [24, 2]


def test_smaller_slices_are_padded_at_the_bottom_and_the_right():
    cases = [*_cases([2], height=4, width=2), *_cases([2], height=3, width=5, name="wide")]
    batch = Slices(cases).gather([1, 3])
    assert batch["image"].shape == (2, 4, 5, 3)
    assert batch["mask"].shape == (2, 4, 5)
    for row, (height, width) in enumerate([(4, 2), (3, 5)]):
        assert (batch["image"][row, :height, :width] == 1).all()
        assert batch["image"][row].sum() == height * width * 3
        assert (batch["mask"][row, :height, :width] == 1).all()
        assert batch["mask"][row].sum() == height * width


@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_neighbouring_slices_are_channels_and_edges_are_repeated(neighbours):
    cases = _cases([3, 1])
    for channel in range(3):
        cases[0].image[..., channel] += 50 * channel
    batch = Slices(cases, neighbours=neighbours).gather([0, 1, 2, 3])
    places = {0: [[0], [1], [2]], 1: [[0, 0, 1], [0, 1, 2], [1, 2, 2]]}
    places[2] = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2]]
    for row, numbers in enumerate(places[neighbours]):
        expected = [number + 50 * channel for number in numbers for channel in range(3)]
        assert batch["image"][row, 1, 2].tolist() == expected
    assert batch["image"][3, 0, 0].tolist() == [20] * 3 * (1 + 2 * neighbours)
    # The mask is the middle slice's.
    assert batch["mask"][:, 0, 0].tolist() == [0, 1, 0, 0]
    assert batch["slice"].tolist() == [0, 1, 2, 0]


def test_float_images_keep_their_type():
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 1)).astype(np.float32)
    case = Case("a", "a", image, np.zeros((2, 3, 4), np.uint8))
    np.testing.assert_array_equal(Slices([case]).gather([0, 1])["image"], image)


def test_cases_that_do_not_go_together_are_named():
    [case, other] = _cases([1, 1])
    grey = Case("grey", "x", other.image[..., :1], other.mask)
    with pytest.raises(InputError, match=r"3 channels of uint8: case0\.\n1 channel of uint8: grey\."):
        Slices([case, grey])
    with pytest.raises(InputError, match="blank: these cases have no mask"):
        Slices([case, Case("blank", "x", other.image, None)])


def test_an_epoch_takes_every_slice_once():
    rng = np.random.default_rng(0)
    for _ in range(40):
        depths = rng.integers(1, 9, size=rng.integers(1, 5)).tolist()
        shards = int(rng.integers(1, 4))
        batch_size = shards * int(rng.integers(1, 5))
        seed = int(rng.integers(2**31))
        slices = Slices(_cases(depths))
        if len(slices) < batch_size:
            continue
        steps = pipeline.steps_per_epoch(len(slices), batch_size, shards)
        assert steps == len(slices) // batch_size
        options = {"batch_size": batch_size, "seed": seed, "epochs": 3}
        whole = list(pipeline.training_batches(slices, **options))
        assert len(whole) == 3 * steps
        for epoch in range(3):
            drawn = _all_drawn(whole[epoch * steps : (epoch + 1) * steps])
            assert len(set(drawn)) == len(drawn) == steps * batch_size
        # The shards of a step, one after the other, are the step's batch.
        parts = [pipeline.training_batches(slices, **options, shard=k, shards=shards) for k in range(shards)]
        joined = [
            {name: np.concatenate([part[name] for part in step]) for name in step[0]}
            for step in zip(*parts, strict=True)
        ]
        _assert_same(whole, joined)


def test_a_batch_size_that_divides_leaves_no_slice_out():
    slices = Slices(_cases([7, 5]))
    drawn = _all_drawn(pipeline.training_batches(slices, batch_size=4, seed=0, epochs=1))
    assert sorted(drawn) == [(0, s) for s in range(7)] + [(1, s) for s in range(5)]


def test_slices_left_over_change_from_epoch_to_epoch():
    slices = Slices(_cases([7]))
    batches = _drawn(pipeline.training_batches(slices, batch_size=6, seed=0, epochs=30))
    assert {s for batch in batches for _, s in batch} == set(range(7))
    assert len({frozenset(batch) for batch in batches}) == 7


def test_every_epoch_and_seed_has_its_own_order():
    slices = Slices(_cases([20]))
    orders = [
        tuple(batch)
        for seed in range(5)
        for batch in _drawn(pipeline.training_batches(slices, batch_size=20, seed=seed, epochs=5))
    ]
    assert len(set(orders)) == 25


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6, 13, 14, 15, 99])
def test_resuming_gives_the_rest_to_the_bit(start):
    slices = Slices(_cases([9, 8]))
    options = {"batch_size": 3, "seed": 11, "epochs": 3}
    whole = list(pipeline.training_batches(slices, **options))
    assert len(whole) == 15
    _assert_same(whole[start:], pipeline.training_batches(slices, **options, start_step=start))


@pytest.mark.usefixtures("_parsed_flags")
def test_worker_processes_give_the_same_batches(tmp_path, write_scan):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 8, 8, 3), np.uint8)
    write_scan(tmp_path / "data", "TCGA_AA_1_0", image, rng.integers(0, 2, (9, 8, 8), np.uint8))
    cases, *_ = cache.load(lgg, tmp_path / "data", tmp_path / "cache")
    slices = Slices(cases)
    options = {"batch_size": 2, "seed": 3, "epochs": 2, "start_step": 3}
    alone = list(pipeline.training_batches(slices, **options))
    assert len(alone) == 5
    iterator = iter(pipeline.training_batches(slices, **options, workers=2))
    _assert_same(alone, iterator)
    iterator.close()


def test_memory_maps_travel_by_name(tmp_path):
    [case] = _cases([4], height=64, width=64)
    np.save(tmp_path / "image.npy", case.image)
    mapped = Case("a", "a", np.load(tmp_path / "image.npy", mmap_mode="r"), case.mask)
    part = Case("b", "b", mapped.image[1:3], case.mask[1:3])
    packed = pickle.dumps(Slices([mapped]))
    assert len(packed) < case.mask.nbytes + 2000
    for cases in ([mapped], [part]):
        slices = Slices(cases)
        everything = np.arange(len(slices))
        _assert_same([slices.gather(everything)], [pickle.loads(pickle.dumps(slices)).gather(everything)])


def test_batch_sizes_that_cannot_be_are_refused():
    slices = Slices(_cases([5]))
    with pytest.raises(InputError, match=r"config\.train\.batch_size=6: the training side has 5 slices"):
        pipeline.training_batches(slices, batch_size=6, seed=0, epochs=1)
    with pytest.raises(InputError, match=r"config\.train\.batch_size=4: it must be a multiple of 3"):
        pipeline.training_batches(slices, batch_size=4, seed=0, epochs=1, shards=3)
    with pytest.raises(InputError, match=r"config\.train\.batch_size=0"):
        pipeline.steps_per_epoch(5, 0)


@pytest.mark.parametrize(
    ("middle", "expected"),
    [(0, [0, 1, 2, 3]), (2, [0, 1, 2, 3]), (3, [1, 2, 3, 4]), (4, [2, 3, 4, 5]), (5, [2, 3, 4, 5])],
)
def test_a_slab_lies_around_its_slice_and_within_its_case(middle, expected):
    slices = Slices(_cases([3, 6]), slab=4)
    batch = slices.gather([3 + middle])
    assert batch["image"].shape == (1, 4, 2, 3, 3)
    assert batch["image"][0, :, 0, 0, 0].tolist() == [20 + number for number in expected]
    assert batch["mask"][0, :, 1, 2].tolist() == [number % 2 for number in expected]
    assert batch["slice"].tolist() == [middle]


def test_a_case_thinner_than_a_slab_is_padded_at_its_end():
    batch = Slices(_cases([3]), slab=5).gather([2])
    assert batch["image"][0, :, 0, 0, 0].tolist() == [0, 1, 2, 0, 0]
    assert batch["mask"][0, :, 0, 0].tolist() == [0, 1, 0, 0, 0]


def test_the_asked_share_of_each_batch_has_tumour():
    # Slice 1 is the only one with tumour, and the last case alone has it.
    cases = _cases([1] * 10 + [2])
    slices = Slices(cases)
    assert slices.with_tumour().tolist() == [11]
    stream = {"batch_size": 6, "seed": 1, "epochs": 3, "tumour_share": 1 / 3}
    batches = list(pipeline.training_batches(slices, **stream))
    assert len(batches) == 6
    for batch in batches:
        assert (batch["slice"][-2:] == 1).all()
        assert len(set(batch["case"][:4].tolist())) >= 3
    _assert_same(batches[4:], pipeline.training_batches(slices, **stream, start_step=4))


@pytest.mark.parametrize(
    ("share", "batch_size", "count"),
    [
        *((0.0, 4, 0), (0.1, 4, 0), (0.125, 4, 0), (0.2, 4, 1), (0.375, 4, 2), (0.5, 4, 2), (0.625, 4, 2), (1.0, 4, 4)),
        *(
            (1 / 3, 2, 1),
            (1 / 3, 6, 2),
            (0.34, 6, 2),
            (0.33, 12, 4),
            (0.25, 2, 0),
            (0.75, 2, 2),
            (0.5, 5, 2),
            (0.5, 7, 4),
        ),
    ],
)
def test_a_tumour_share_rounds_to_whole_slices_and_halves_to_the_even_number(share, batch_size, count):
    # One slice alone has tumour, and the order alone gives it once an epoch.
    slices = Slices(_cases([1] * 10 + [2]))
    drawn = _drawn(pipeline.training_batches(slices, batch_size=batch_size, seed=0, epochs=1, tumour_share=share))
    assert len(drawn) == 12 // batch_size
    places = [[place for place, one in enumerate(batch) if one == (10, 1)] for batch in drawn]
    end = list(range(batch_size - count, batch_size))
    assert all(of_batch[len(of_batch) - count :] == end for of_batch in places)
    assert sum(len(of_batch) - count for of_batch in places) <= 1


def test_slices_repeat_within_an_epoch_for_a_tumour_share_alone():
    slices = Slices(_cases([12, 8]))
    drawn = _drawn(pipeline.training_batches(slices, batch_size=4, seed=0, epochs=1, tumour_share=0.5))
    from_order = [one for batch in drawn for one in batch[:2]]
    assert len(set(from_order)) == len(from_order) == 10
    assert {number % 2 for batch in drawn for _, number in batch[2:]} == {1}
    everything = [one for batch in drawn for one in batch]
    assert len(set(everything)) < len(everything)


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan")])
def test_a_tumour_share_that_cannot_be_is_refused(share):
    with pytest.raises(InputError, match=r"config\.data\.tumour_share=.*: it must be from 0 to 1\."):
        pipeline.training_batches(Slices(_cases([4])), batch_size=2, seed=0, epochs=1, tumour_share=share)


def test_a_tumour_share_needs_tumour():
    with pytest.raises(InputError, match=r"config\.data\.tumour_share=0\.5: no slice"):
        pipeline.training_batches(Slices(_cases([1, 1])), batch_size=2, seed=0, epochs=1, tumour_share=0.5)


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (OSError("disk error"), StuckError, r"cannot be made \(OSError: disk error"),
        (InputError("as it is"), InputError, "^as it is"),
    ],
)
def test_what_gathering_raises_ends_the_stream_with_its_cause(raised, expected, message):
    def weigh(mask):
        raise raised

    slices = Slices(_cases([5]), weigh=weigh)
    batches = pipeline.stream(pipeline.training_batches(slices, batch_size=2, seed=0, epochs=1))
    with pytest.raises(expected, match=message):
        next(batches)
    assert list(batches) == []


def test_a_stream_is_the_batches():
    slices = Slices(_cases([5]))
    batches = pipeline.training_batches(slices, batch_size=2, seed=0, epochs=2)
    _assert_same(batches, pipeline.stream(batches))
    ended = pipeline.training_batches(slices, batch_size=2, seed=0, epochs=2, start_step=4)
    assert list(pipeline.stream(ended)) == []
