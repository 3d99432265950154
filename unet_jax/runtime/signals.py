"""Clean stops: on SIGTERM or SIGINT a run saves at the end of its step, and ends."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn

from unet_jax.errors import StopRequestedError
from unet_jax.runtime.watchdog import end_process

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds that the main thread has to stop by itself where the run may end anywhere.
GRACE = 3.0


class StopRequest:
    """Notices SIGTERM and SIGINT, once or several times, in place of their default actions.

    Between steps, the run looks at `asked` and stops by itself: the step under way is worth finishing. Elsewhere
    (compiling, reading all data, validating) minutes may pass before it looks: there the run gives its last words in
    advance and may be ended `anywhere`, by a thread if need be.

    Python handles signals in the main thread only; in another thread `asked` stays False.

    Args:
        listen: False leaves the signals alone: jax.distributed handles them itself.

    Attributes:
        asked: whether there was a signal.
    """

    def __init__(self, *, listen: bool = True):
        self.asked = False
        self._listens = listen and threading.current_thread() is threading.main_thread()
        self._last_words: Callable[[], str] | None = None
        self._lock = threading.Lock()
        self._before: dict = {}

    def __enter__(self) -> "StopRequest":
        if not self._listens:
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
        if self._listens:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._written)
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def anywhere(self, last_words: Callable[[], str]) -> None:
        """From here on the run may end at any point; `last_words` saves what there is to save and says so."""
        with self._lock:
            self._last_words = last_words
        self.check()

    def between_steps(self) -> None:
        """From here on the run stops by itself."""
        with self._lock:
            self._last_words = None

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
        while received := os.read(listening, 1):
            if received[0] not in SIGNALS:
                continue
            self.asked = True
            time.sleep(GRACE)
            # The lock keeps the main thread where it is.
            with self._lock:
                if self._last_words is not None:
                    end_process(self._last_words(), StopRequestedError.exit_code)
        os.close(listening)
