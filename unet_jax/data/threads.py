"""Work shared out to threads, with its results in order."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 8
# A case weighs as many bytes as its files have: decoded, and while it is, it takes some times as many.
MOST_WEIGHT = 2**27


def in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    title: str,
    unit: str = "case",
    weight: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """Calls `function` on each item in threads and yields the results in the order of the items.

    Threads are enough for work that releases Python's lock, as reading, hashing and decoding do. At any time as many
    items are under way, or wait to be taken, as there are threads, and of heavy ones fewer: that bounds the memory.

    Args:
        function: called in several threads at once; what it raises is raised here.
        items: what to call it on.
        title: of the progress bar, which appears after a second.
        unit: what the bar counts.
        weight: of an item. Items under way weigh MOST_WEIGHT together at most; a heavier one is by itself.
    """
    threads = min(MOST, os.cpu_count() or 1)
    waiting: collections.deque[tuple[concurrent.futures.Future, int]] = collections.deque()
    bar = tqdm(desc=title, total=len(items), unit=unit, disable=None, delay=1)
    with bar, concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for item in items:
            its = weight(item)
            while waiting and (len(waiting) == threads or sum(each for _, each in waiting) + its > MOST_WEIGHT):
                yield waiting.popleft()[0].result()
                bar.update()
            waiting.append((pool.submit(function, item), its))
        while waiting:
            yield waiting.popleft()[0].result()
            bar.update()
