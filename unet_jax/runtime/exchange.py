"""What the processes of a run tell each other: texts and bytes gathered, waiting for each other, work shared out.

All of it goes through the key-value store of jax's coordination service, from one host to another, and no device takes
part: processes may come minutes apart. A process by itself talks to nobody, and every function says so at once.

Every process calls the same functions in the same order: each call has a number, and that of all others is the same.
jax is not imported, so that reading and planning may share out their work too.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from unet_jax.errors import InputError

Result = TypeVar("Result")

# Milliseconds that a process waits for the others: whoever ends, dies or hangs meanwhile ends all of them (see
# `peers`), so that this is as good as forever.
FOREVER = 10**9
PREFIX = "unet_jax"


class Group(NamedTuple):
    """The processes of a run.

    Attributes:
        store: jax's client of the coordination service.
        index: this process's number, from 0.
        count: how many there are.
        calls: the numbers of the calls to come.
    """

    store: Any
    index: int
    count: int
    calls: Iterator[int]


_group: Group | None = None


def begin(store: Any, index: int, count: int) -> None:
    """Makes this process one of `count`; called once, when they have found each other."""
    global _group
    _group = Group(store, index, count, itertools.count())


def end() -> None:
    """Makes this process one by itself again."""
    global _group
    _group = None


def count() -> int:
    """How many processes there are."""
    return 1 if _group is None else _group.count


def index() -> int:
    """This process's number, from 0."""
    return 0 if _group is None else _group.index


def gather(data: bytes) -> list[bytes]:
    """What each process called this with, in the order of their numbers, in every process."""
    if _group is None:
        return [data]
    folder = _put(_group, data)
    found = dict(_group.store.key_value_dir_get_bytes(folder))
    return [found[f"{folder}{number}"] for number in range(_group.count)]


def collect(data: bytes) -> list[bytes]:
    """`gather`, in the first process; in the others an empty list: for what is large and used in one place."""
    if _group is None:
        return [data]
    folder = _put(_group, data)
    if _group.index:
        return []
    return [_group.store.blocking_key_value_get_bytes(f"{folder}{number}", FOREVER) for number in range(_group.count)]


def gather_json(value: Any) -> list[Any]:
    """`gather` of what JSON can hold, numpy's numbers included."""
    if _group is None:
        return [value]
    return [json.loads(data) for data in gather(json.dumps(value, default=lambda number: number.item()).encode())]


def barrier() -> None:
    """Waits until every process has come here."""
    if _group is not None:
        _wait(_group, next(_group.calls))


def tell(what: str) -> None:
    """Tells the others something, once or several times: see `told`."""
    if _group is not None:
        _group.store.key_value_set(f"{PREFIX}/told/{what}/it", "", allow_overwrite=True)


def told(what: str) -> bool:
    """Whether a process has told it, so far; it may be told while some have asked and others have not."""
    return _group is not None and bool(_group.store.key_value_dir_get(f"{PREFIX}/told/{what}"))


def primary_first(work: Callable[[], Result]) -> Result:
    """Does work that leaves something on disk for whoever does it next: first the first process, then the others."""
    if index() == 0:
        result = work()
        barrier()
        return result
    barrier()
    return work()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within the block, the first process works as if it were the only one, while the others wait for it elsewhere."""
    global _group
    before, _group = _group, None
    try:
        yield
    finally:
        _group = before


def done_by_primary(work: Callable[[], Any]) -> Any:
    """What comes of work that the first process does alone, and that JSON can hold, in every process."""
    if index():
        return gather_json(None)[0]
    with alone():
        result = work()
    return gather_json(result)[0]


def by_primary(decide: Callable[[], Any]) -> Any:
    """What the first process decides, which JSON can hold, in every process; only there `decide` is called."""
    return gather_json(decide() if index() == 0 else None)[0]


def share_of(weights: Sequence[int | float]) -> list[int]:
    """This process's part of the work, as positions in ascending order: all parts weigh about the same.

    Args:
        weights: of each piece of work.
    """
    return shares(weights, count())[index()]


def shares(weights: Sequence[int | float], parts: int) -> list[list[int]]:
    """Positions dealt out to `parts`: the heaviest first, each to whoever has least so far."""
    dealt: list[list[int]] = [[] for _ in range(parts)]
    loads = [0.0] * parts
    for position in sorted(range(len(weights)), key=lambda position: -weights[position]):
        least = loads.index(min(loads))
        dealt[least].append(position)
        loads[least] += weights[position]
    return [sorted(part) for part in dealt]


def agree(facts: Mapping[str, Any], remedy: str = "start all of them with the same command") -> None:
    """Checks that all processes have the same facts, which JSON can hold, and lets none of them pass before.

    Raises:
        InputError: in every process, where one of them differs from the first one in anything: with the first such
            key, and both values.
    """
    for number, found in enumerate(everybody := gather_json(dict(facts))):
        for key in sorted(found.keys() | everybody[0].keys()):
            here, there = (facts.get(key) for facts in (found, everybody[0]))
            if here != there:
                raise InputError(f"process {number} has {key}={here!r}, and process 0 {there!r}: {remedy}.")


def _put(group: Group, data: bytes) -> str:
    """Puts this process's data beside that of the others, waits for theirs, and says where they are."""
    number = next(group.calls)
    group.store.key_value_set_bytes(f"{PREFIX}/{number}/{group.index}", data)
    _wait(group, number)
    return f"{PREFIX}/{number}/"


def _wait(group: Group, number: int) -> None:
    group.store.wait_at_barrier(f"{PREFIX}/{number}", FOREVER)
    # All are here, and have read what was gathered in the call before, if anything was.
    group.store.key_value_delete(f"{PREFIX}/{number - 1}/{group.index}")
