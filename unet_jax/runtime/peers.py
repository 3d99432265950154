"""What happens to one process of a run happens to all: errors travel, and who dies or hangs is noticed.

Each process has three threads. One writes a sign of life into the key-value store of jax's coordination service, once a
second; in the first process it also reads those of the others. One waits there for the cause that ends the run. And one
looks at the clock: without a sign for SILENCE seconds, a process counts as lost, be it dead, stopped or out of reach.

Whoever ends with an error puts its line and its exit code into the store before it goes, and all others end with the
same ones. The main thread of a process may hang meanwhile in a sum over devices of which some are no more: then it is
ended where it stands. What lies on the disk is whole at any moment (see `files`).
"""

import contextlib
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from unet_jax.errors import RunError, StopRequestedError, StuckError
from unet_jax.runtime import exchange, watchdog

# Seconds between two signs of life, and without one after which a process counts as lost: jax's own heartbeats are set
# to take longer. A process whose partners in a sum have gone need not wait that long.
PERIOD, SILENCE, SILENCE_AFTER_FAULT = 1.0, 40.0, 8.0
# A look at the clock that comes later than this was kept from it: then the others had no time to be heard either.
LATE = 3.0
# Seconds that the first process, which holds the store, gives the others to read why it ends; and that a process gives
# the store to answer at all.
FAREWELL, ANSWER = 8.0, 5.0
# What an error says that comes from another process's end: of sums over devices, whatever its type, and of the store.
OF_SUMS, OF_STORE = ("gloo", "nccl"), ("coordination", "barrier", "unavailable", "deadline", "cancelled", "aborted")

_peers: "Peers | None" = None


class Peers:
    """The other processes of a run, and this one's threads that watch over them.

    Args:
        store: jax's client of the coordination service.
        index: this process's number, from 0; the first one holds the store.
        count: how many there are.
        leave: called when all of them are done.
        prints: whether the line of the end is printed here.
    """

    def __init__(self, store: Any, index: int, count: int, leave: Callable[[], None], *, prints: bool = True):
        self._store, self._index, self._count, self._leave = store, index, count, leave
        self._prints = prints
        self._threads = [
            threading.Thread(target=work, daemon=True, name="peers") for work in (self._beat, self._listen, self._watch)
        ]
        self._done = threading.Event()
        self._ending = threading.Lock()
        self._silence = SILENCE
        self._awake = 0.0
        # When, by `_awake`, each process that this one listens to was heard last: the first one, or all others.
        self._heard = dict.fromkeys(range(1, count) if index == 0 else [0], 0.0)

    def start(self) -> None:
        """Begins to give signs of life, to listen and to watch."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Waits until all processes are done, and parts with them."""
        exchange.barrier()
        self._done.set()
        self._published({})  # wakes whoever listens
        for thread in self._threads:
            thread.join()  # Python must not end while one of them is outside of it
        self._leave()

    def lost(self, number: int) -> None:
        """Ends all processes, because this one is dead or out of reach."""
        if not self._done.is_set():
            self.end(
                f"process {number} has died, hangs or cannot be reached: look at its output; run the same command to "
                "resume from the last checkpoint.",
                StuckError.exit_code,
                leaving_out=number,
            )

    def end(self, message: str, exit_code: int, leaving_out: int | None = None) -> NoReturn:
        """Ends this process and all others, with the line and the exit code of whoever was first to have one.

        Args:
            message: what ended this process.
            exit_code: its exit code.
            leaving_out: a process that cannot be told.
        """
        if not self._ending.acquire(blocking=False):
            time.sleep(3600)  # another thread does it
        named = message if message.startswith("process ") else f"process {self._index}: {message}"
        cause = {"message": named, "exit_code": exit_code}
        if leaving_out != 0:
            cause = self._within(ANSWER, lambda: self._published(cause)) or cause
        if self._prints:
            watchdog.complain_at_once(cause["message"], cause["exit_code"])
        if leaving_out != 0:
            self._within(FAREWELL, lambda: self._say_farewell(leaving_out))
        watchdog.exit_now(cause["exit_code"])

    def _published(self, cause: dict) -> dict:
        """The cause that all end with: this one, unless there was another before; empty where all are done."""
        try:
            self._store.key_value_set(_key("cause"), json.dumps(cause))
        except RuntimeError:
            return json.loads(self._store.blocking_key_value_get(_key("cause"), int(ANSWER * 1000)))
        return cause

    def _say_farewell(self, leaving_out: int | None) -> None:
        """The first process takes the store with it: it waits until the others have read what is there."""
        if self._index:
            self._store.key_value_set(_key(f"farewell/{self._index}"), "")
            return
        while len(self._store.key_value_dir_get(_key("farewell/"))) < self._count - 1 - (leaving_out is not None):
            time.sleep(0.05)

    def wait_for_cause(self, error: BaseException) -> NoReturn:
        """For the main thread, after an error that another process's end must be the reason of."""
        self._silence = SILENCE_AFTER_FAULT
        if self._index:
            # The first process, which looks after all, may wait for others that are in no fault.
            self._within(ANSWER, lambda: self._store.key_value_set(_key(f"faults/{self._index}"), ""))
        time.sleep(SILENCE_AFTER_FAULT + LATE + ANSWER)
        if self._index:
            time.sleep(SILENCE)  # the first process may not have met an error, and looks for longer
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.end(f"another process has died or cannot be reached ({first_line}).", StuckError.exit_code)

    def _beat(self) -> None:
        number = 0
        seen: dict[str, str] = {}
        while not self._done.wait(PERIOD):
            number += 1
            with contextlib.suppress(RuntimeError):  # the watching thread knows how long that may last
                self._store.key_value_set(_key(f"alive/{self._index}"), str(number), allow_overwrite=True)
                if self._index:
                    self._heard[0] = self._awake
                    continue
                for key, value in self._store.key_value_dir_get(_key("alive/")):
                    if seen.get(key) != value:
                        seen[key] = value
                        self._heard[int(key.rpartition("/")[2])] = self._awake
                if self._store.key_value_dir_get(_key("faults/")):
                    self._silence = SILENCE_AFTER_FAULT

    def _listen(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(RuntimeError):  # nothing in that time
                cause = json.loads(self._store.blocking_key_value_get(_key("cause"), 60_000))
                if not cause:
                    return
                self.end(cause["message"], cause["exit_code"])
            time.sleep(PERIOD / 10)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._done.wait(PERIOD / 2):
            now = time.monotonic()
            self._awake += min(now - before, LATE)
            before = now
            for number, heard in self._heard.items():
                if self._awake - heard > self._silence:
                    self.lost(number)

    def _within(self, seconds: float, work: Callable[[], Any]) -> Any:
        """What `work` returns; None where it takes longer or fails: the store may be out of reach."""
        results = []

        def try_it() -> None:
            with contextlib.suppress(RuntimeError):
                results.append(work())

        thread = threading.Thread(target=try_it, daemon=True)
        thread.start()
        thread.join(seconds)
        return results[0] if results else None


def _key(name: str) -> str:
    return f"{exchange.PREFIX}/peers/{name}"


def begin(store: Any, index: int, count: int, leave: Callable[[], None], *, prints: bool = True) -> Peers:
    """From here on, this process's end is that of all, and theirs is its own; the arguments are those of `Peers`."""
    global _peers
    _peers = Peers(store, index, count, leave, prints=prints)
    watchdog.end_with(_peers.end)
    _peers.start()
    return _peers


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Within the block, an error of this process, if it is one of several, ends all of them; after it, all part."""
    global _peers
    try:
        yield
        if _peers is not None:
            _peers.leave()
            watchdog.end_with(None)
            _peers = None
    except RunError as error:
        if _peers is not None:
            _peers.end(str(error), error.exit_code)
        raise
    except KeyboardInterrupt:
        if _peers is not None:
            _peers.end("stopped by SIGINT; run the same command to resume.", StopRequestedError.exit_code)
        raise
    except Exception as error:
        if _peers is not None:
            if _is_symptom(error):
                _peers.wait_for_cause(error)
            traceback.print_exc()
            _peers.end(f"{type(error).__name__}, a bug: its traceback is in the output of that process.", 1)
        raise


def _is_symptom(error: BaseException) -> bool:
    """Whether an error may come from another process's end."""
    while error is not None:
        words = OF_SUMS + OF_STORE if isinstance(error, RuntimeError) else OF_SUMS
        if any(word in str(error).lower() for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False
