"""Clean stops: on SIGTERM or SIGINT a run answers at once and saves after its step; a second signal ends it now."""

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

from unet_jax.errors import RunError, StopRequestedError
from unet_jax.runtime.watchdog import end_process, say_at_once

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds that the main thread has to stop by itself where the run may end anywhere.
GRACE = 3.0
# Seconds after a signal in which another one is the same one, sent twice: to the process and to its group, say.
SAME = 0.5

LastWords = Callable[[], str]


class StopRequest:
    """Notices SIGTERM and SIGINT, once or several times, in place of their default actions.

    Between steps, the run looks at `asked` and stops by itself: the step under way is worth finishing, but for a second
    signal. Elsewhere (compiling, reading all data, validating) minutes may pass before it looks: there the run gives
    its last words in advance and may be ended `anywhere`, by a thread if need be. The first signal is answered on
    stderr at once.

    Python handles signals in the main thread only; in another thread `asked` stays False.

    Args:
        listen: False leaves the signals alone: jax.distributed handles them itself.

    Attributes:
        asked: whether there was a signal.
        listens: whether it would be noticed.
    """

    def __init__(self, *, listen: bool = True):
        self.asked = False
        self.listens = listen and threading.current_thread() is threading.main_thread()
        self._last_words: LastWords | None = None
        self._anywhere = False
        self._seconds = math.inf
        self._lock = threading.Lock()
        self._before: dict = {}

    def __enter__(self) -> "StopRequest":
        if not self.listens:
            return self
        listening, written = os.pipe()
        os.set_blocking(written, False)
        self._before = {number: signal.signal(number, self._notice) for number in SIGNALS}
        # Python calls `_notice` once the main thread returns from C++; this pipe gets its byte at once.
        self._wakeup_before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(listening,), daemon=True, name="stop request").start()
        self._written = written
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.between_steps()
        if self.listens:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._written)
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def anywhere(self, last_words: LastWords) -> None:
        """From here on the run may end at any point; `last_words` saves what there is to save and says so."""
        with self._lock:
            self._last_words, self._anywhere, self._seconds = last_words, True, GRACE
        self.check()

    def between_steps(self, seconds: float = math.inf, last_words: LastWords | None = None) -> None:
        """From here on the run stops by itself.

        Args:
            seconds: after a signal, at most; infinite where nobody knows.
            last_words: what a second signal ends the run with, at any point; None: it waits as well.
        """
        with self._lock:
            self._last_words, self._anywhere, self._seconds = last_words, False, seconds

    def check(self) -> None:
        """Raises StopRequestedError with the last words if there was a signal."""
        if self.asked:
            self._stop()

    def _stop(self) -> NoReturn:
        with self._lock:
            last_words, self._last_words = self._last_words, None
        raise StopRequestedError(last_words())

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def _listen(self, listening: int) -> None:
        first = None
        while True:
            ready, _, _ = select.select([listening], [], [], None if first is None else GRACE)
            if ready:
                received = os.read(listening, 1)
                if not received:
                    break
                if received[0] not in SIGNALS:
                    continue
                self.asked = True
                if first is None:
                    first = time.monotonic()
                    say_at_once(self._answer())
                if time.monotonic() - first < SAME:
                    continue
            # There was a second signal, or the main thread had its time.
            self._end(at_once=bool(ready))

    def _answer(self) -> str:
        """What the first signal is answered with."""
        with self._lock:
            within = f" {self._seconds:.0f} s" if self._seconds >= 1 else " a second"
            if self._anywhere:
                return f"stopping within{within}"
            bound = "" if math.isinf(self._seconds) else f", up to{within}"
            again = "; again to stop now" if self._last_words else ""
            return f"stopping after this step{bound}{again}"

    def _end(self, *, at_once: bool) -> None:
        """Ends the process where it may be ended."""
        # The lock keeps the main thread where it is.
        with self._lock:
            if self._last_words is None or not (self._anywhere or at_once):
                return
            try:
                end_process(self._last_words(), StopRequestedError.exit_code)
            except RunError as error:  # saving fails
                end_process(str(error), error.exit_code)
