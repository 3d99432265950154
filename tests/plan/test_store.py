import json

import numpy as np
import pytest

from unet_jax.errors import DamageError
from unet_jax.plan import store

ARRAYS = {
    "image": np.arange(60, dtype=np.float32).reshape(3, 4, 5),
    "none": np.zeros((0, 3), np.int32),
    "mask": np.full((3, 4, 5), -1, np.int8),
}
FACTS = {"box": [[0, 3], [1, 5]], "name": "é"}


@pytest.fixture
def path(tmp_path):
    store.write(tmp_path / "a.case", FACTS, ARRAYS)
    return tmp_path / "a.case"


def test_what_is_written_comes_back(path):
    stored = store.read(path)
    assert stored.facts == FACTS
    assert store.is_whole(stored)
    for name, array in ARRAYS.items():
        found = stored.open(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert stored.places[name].offset % store.ALIGNMENT == 0
    with pytest.raises(ValueError, match="read-only"):
        stored.open("image")[0] = 1


def test_any_changed_byte_of_the_header_or_of_an_array_is_found(path):
    data = path.read_bytes()
    places = store.read(path).places.values()
    header = data.index(b"\n", data.index(b"\n") + 1)
    checked = {*range(header), *(at for place in places for at in range(place.offset, place.offset + place.nbytes))}
    for position in checked:
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            found = store.is_whole(store.read(path))
        except DamageError:
            found = False
        assert not found, position


def test_a_file_cut_short_is_found(path):
    data = path.read_bytes()
    for length in (0, 10, 100, len(data) // 2, len(data) - store.ALIGNMENT):
        path.write_bytes(data[:length])
        try:
            found = store.is_whole(store.read(path))
        except DamageError:
            found = False
        assert not found, length


def test_the_header_is_json_that_anybody_can_read(path):
    _, line, _ = path.read_bytes().split(b"\n", 2)
    assert json.loads(line)["facts"] == FACTS
