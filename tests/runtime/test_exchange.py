"""What one process says by itself; several are in test_processes.py."""

import random

import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.runtime import exchange


class Store:
    """Of two processes, of which the other one has said `answers`, in the order of the calls."""

    def __init__(self, answers):
        self.answers = answers
        self.kept = {}

    def key_value_set_bytes(self, key, value):
        self.kept[key] = value

    def wait_at_barrier(self, key, milliseconds):
        number = int(key.rpartition("/")[2])
        if number < len(self.answers):
            self.kept[f"{key}/1"] = self.answers[number]

    def key_value_dir_get_bytes(self, folder):
        return [(key, value) for key, value in self.kept.items() if key.startswith(folder)]

    def key_value_delete(self, key):
        self.kept.pop(key, None)


@pytest.fixture
def beside():
    """Makes this process the first of two."""
    yield lambda *answers: exchange.begin(Store(answers), 0, 2)
    exchange.end()


def test_one_process_talks_to_nobody():
    assert (exchange.count(), exchange.index()) == (1, 0)
    assert exchange.gather(b"a") == exchange.collect(b"a") == [b"a"]
    assert exchange.gather_json({1: "a"}) == [{1: "a"}]
    assert (
        exchange.by_primary(lambda: 3) == exchange.primary_first(lambda: 3) == exchange.done_by_primary(lambda: 3) == 3
    )
    exchange.barrier()
    exchange.tell("it")
    assert not exchange.told("it")
    exchange.agree({"a": 1})
    assert exchange.share_of([1, 5, 2]) == [0, 1, 2]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_every_piece_of_work_is_done_once_and_none_has_much_more_than_another(parts):
    draw = random.Random(parts)
    for count in range(12):
        weights = [draw.randint(1, 50) for _ in range(count)]
        shares = exchange.shares(weights, parts)
        assert sorted(position for share in shares for position in share) == list(range(count))
        assert all(share == sorted(share) for share in shares)
        loads = [sum(weights[position] for position in share) for share in shares]
        # The last to be dealt out went to whoever had least.
        assert max(loads) - min(loads) <= max(weights, default=0)


def test_what_others_have_is_gathered_and_what_differs_is_named(beside):
    beside(b'{"n": 2}', b'{"a": 1, "b": [2]}', b'{"a": 1}')
    assert exchange.gather_json({"n": np.int64(1)}) == [{"n": 1}, {"n": 2}]
    exchange.agree({"a": 1, "b": [2]})
    with pytest.raises(InputError, match=r"process 1 has b=None, and process 0 \[2\]: start all"):
        exchange.agree({"a": 1, "b": [2]})


def test_what_was_gathered_does_not_stay(beside):
    beside(b"b", b"c", b"d")
    for number in range(3):
        exchange.gather(b"a")
        assert f"{exchange.PREFIX}/{number - 1}/0" not in exchange._group.store.kept


def test_alone_is_alone(beside):
    beside(b"[0]")
    with exchange.alone():
        assert exchange.count() == 1
        assert exchange.gather(b"a") == [b"a"]
    assert exchange.count() == 2
