import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unet_jax.runtime.quiet import without_tracebacks

# A save fails while a thread of its own is under way, which then finds the event loop closed; and another fault.
CHILD = """
import ctypes, logging, sys, threading, time
from unet_jax.runtime.quiet import without_tracebacks

def complain(text):
    time.sleep(0.02)
    class Complaint:
        def __del__(self):
            raise RuntimeError(text)
    Complaint()

try:
    with without_tracebacks():
        for text in ("Event loop is closed", "something else"):
            threading.Thread(target=complain, args=(text,)).start()
        logging.error("orbax says so too")
        raise OSError("the disk is full")
except OSError as error:
    print(error)
"""


def _state():
    return sys.unraisablehook, logging.root.manager.disable


def test_hook_and_logging_are_as_before_afterwards():
    before = _state()
    with without_tracebacks():
        assert _state() != before
    assert _state() == before
    with pytest.raises(ValueError, match="no"), without_tracebacks():
        raise ValueError("no")
    assert _state() == before


def test_what_the_caller_has_disabled_stays_disabled():
    logging.disable(logging.WARNING)
    try:
        with without_tracebacks():
            pass
        assert logging.root.manager.disable == logging.WARNING
    finally:
        logging.disable(logging.NOTSET)


def test_threads_that_a_failure_leaves_behind_are_silent_and_other_faults_are_not():
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "the disk is full\n"
    assert "something else" in done.stderr
    assert "Event loop is closed" not in done.stderr
    assert "orbax says so too" not in done.stderr


def test_threads_are_not_waited_for_where_nothing_failed():
    under_way = threading.Event()
    thread = threading.Thread(target=under_way.wait)
    with without_tracebacks():
        thread.start()
    assert thread.is_alive()
    under_way.set()
    thread.join()
