import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from unet_jax.data import pool_index, pools
from unet_jax.errors import DamageError, InputError


def entries(count=5, seed=0):
    """Facts and arrays of several types; sizes that fill no whole number of 64 bytes; every third has no mask."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = rng.normal(size=(number + 1, 3, 5)).astype([np.float32, ">f8", np.uint8][number % 3])
        mask = None if number % 3 == 2 else rng.integers(-3, 3, (number + 1, 7), np.int16)
        yield {"name": f"case {number}", "spacing": [1.5, number]}, {"image": image, "mask": mask}


@pytest.fixture
def folder(tmp_path):
    pools.write(tmp_path, entries())
    return tmp_path


def assert_as_written(folder, count=5):
    records = pool_index.read(folder)
    assert pools.damaged(folder, records) == []
    found = pools.open_arrays(folder, records)
    for record, arrays, (facts, expected) in zip(records, found, entries(count), strict=True):
        assert record.facts == facts
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            if array is None:
                assert arrays[name] is None
                continue
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)


def test_what_is_read_is_what_was_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["index.jsonl", "pool-0000.bin"]
    assert_as_written(folder)


def test_arrays_are_aligned_read_only_views_of_one_map(folder):
    records = pool_index.read(folder)
    arrays = [one for arrays in pools.open_arrays(folder, records) for one in arrays.values() if one is not None]
    assert len({id(array.base) for array in arrays}) == 1
    assert all(isinstance(array.base, np.memmap) for array in arrays)
    assert not any(array.flags.writeable for array in arrays)
    assert all(array.__array_interface__["data"][0] % 64 == 0 for array in arrays)


def test_a_digest_is_that_of_type_shape_bytes_and_padding(tmp_path):
    array = np.arange(10, dtype="<i4").reshape(2, 5)
    pools.write(tmp_path, [({}, {"one": array})])
    [record] = pool_index.read(tmp_path)
    expected = hashlib.sha256(b"<i4 [2, 5]\n" + array.tobytes() + bytes(24)).hexdigest()
    assert record.places["one"] == pool_index.Place(0, 0, "<i4", (2, 5), expected)
    head, line = (tmp_path / "index.jsonl").read_bytes().split(b"\n", 1)
    assert json.loads(head) == {"sha256": hashlib.sha256(line).hexdigest()}


def test_a_pool_that_is_full_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "POOL_BYTES", 1000)
    monkeypatch.setattr(pools, "GROUP_BYTES", 100)
    monkeypatch.setattr(pools, "STEP_BYTES", 64)
    pools.write(tmp_path, entries(20))
    pools_of = [{place.pool for place in one.places.values() if place} for one in pool_index.read(tmp_path)]
    assert all(len(numbers) == 1 for numbers in pools_of)
    numbers = [number for [number] in pools_of]
    assert numbers == sorted(numbers)
    for number in range(max(numbers) + 1):
        size = (tmp_path / f"pool-{number:04d}.bin").stat().st_size
        assert size <= 1000 or numbers.count(number) == 1
    assert numbers.count(0) > 1
    assert max(numbers) > 5
    assert_as_written(tmp_path, 20)


def test_the_same_entries_give_the_same_bytes(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    pools.write(other, entries())
    for path in folder.iterdir():
        assert (other / path.name).read_bytes() == path.read_bytes()


def test_every_flipped_bit_is_found_and_in_its_record_alone(folder, monkeypatch):
    monkeypatch.setattr(pools, "STEP_BYTES", 64)
    path = folder / "pool-0000.bin"
    whole = path.read_bytes()
    records = pool_index.read(folder)
    places = [(place, number) for number, one in enumerate(records) for place in one.places.values() if place]
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :])
        [position] = pools.damaged(folder, records)
        assert position == [number for place, number in places if place.offset <= byte][-1]
    path.write_bytes(whole)
    for size in range(0, len(whole), 7):
        os.truncate(path, size)
        assert pools.damaged(folder, records)[-1] == 4
        path.write_bytes(whole)
    path.unlink()
    assert pools.damaged(folder, records) == [0, 1, 2, 3, 4]


def test_every_change_of_the_index_is_found(folder):
    path = folder / "index.jsonl"
    whole = path.read_bytes()
    for byte in range(0, len(whole), 3):
        for content in (
            whole[:byte],
            whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :],
            whole[:byte] + b"\n" + whole[byte:],
        ):
            path.write_bytes(content)
            with pytest.raises(DamageError, match=r"index\.jsonl: the index is damaged"):
                pool_index.read(folder)
    path.unlink()
    with pytest.raises(DamageError, match=r"index\.jsonl: the index is missing"):
        pool_index.read(folder)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"facts": {}, "arrays": {"one": [0, 0]}}',
        '{"facts": {}, "arrays": {"one": [0, 0, "|O", [1], "x"]}}',
        '{"facts": {}, "arrays": {"one": [-1, 0, "|u1", [1], "x"]}}',
        '{"facts": {}, "arrays": {"one": [0, 0, "|u1", [-1], "x"]}}',
    ],
)
def test_a_forged_index_is_refused(line, tmp_path):
    body = line.encode() + b"\n"
    (tmp_path / "index.jsonl").write_bytes(pool_index._head(body) + body)
    with pytest.raises(DamageError, match="not of this layout"):
        pool_index.read(tmp_path)


def test_what_was_damaged_is_restored_to_the_bit(folder):
    path = folder / "pool-0000.bin"
    whole = path.read_bytes()
    given = [arrays for _, arrays in entries()]
    records = pool_index.read(folder)
    for spoil in (
        lambda: path.write_bytes(whole[:200] + bytes(100) + whole[300:]),
        lambda: os.truncate(path, 400),
        path.unlink,
    ):
        spoil()
        for position in pools.damaged(folder, records):
            pools.restore(folder, records[position], given[position])
        assert path.read_bytes() == whole


def test_other_arrays_are_not_put_in_their_place(folder):
    path = folder / "pool-0000.bin"
    whole = path.read_bytes()
    [first, *_, last] = pool_index.read(folder)
    [(_, arrays), *_] = entries()
    for other in (
        arrays | {"mask": None},
        arrays | {"mask": arrays["mask"] + np.int16(1)},
        arrays | {"mask": arrays["mask"].reshape(7, 1)},
        arrays | {"mask": arrays["mask"].view(np.uint16)},
    ):
        with pytest.raises(DamageError, match="another one when it is made again"):
            pools.restore(folder, first, other)
    with pytest.raises(DamageError):
        pools.restore(folder, last, arrays)
    assert path.read_bytes() == whole


def test_links_and_pipes_are_neither_followed_nor_waited_for(folder, tmp_path_factory):
    victim = tmp_path_factory.mktemp("victim") / "file"
    victim.write_bytes(b"whole")
    records = pool_index.read(folder)
    [(_, arrays), *_] = entries()
    pool, index = folder / "pool-0000.bin", folder / "index.jsonl"
    for make in (lambda path: path.symlink_to(victim), os.mkfifo, Path.mkdir):
        for path in (pool, index):
            kept = path.rename(folder / "kept")
            make(path)
            with pytest.raises(InputError, match=rf"{path.name}: is a link, folder or pipe, not a file"):
                pools.damaged(folder, records) if path is pool else pool_index.read(folder)
            if path is pool:
                with pytest.raises(InputError, match="is a link, folder or pipe"):
                    pools.restore(folder, records[0], arrays)
            path.rmdir() if path.is_dir() else path.unlink()
            kept.rename(path)
    assert victim.read_bytes() == b"whole"


def test_what_the_system_refuses_is_not_damage(folder, monkeypatch):
    records = pool_index.read(folder)

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        pools.damaged(folder, records)


def test_types_that_bytes_may_not_be_values_of_are_not_stored(tmp_path):
    with pytest.raises(TypeError, match="arrays of object cannot be stored"):
        pools.write(tmp_path, [({}, {"one": np.array([None])})])
    assert not (tmp_path / "index.jsonl").exists()
