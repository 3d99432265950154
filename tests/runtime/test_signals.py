import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unet_jax.errors import StopRequestedError
from unet_jax.runtime import signals
from unet_jax.runtime.signals import StopRequest

PROJECT = Path(__file__).parents[2]

# A signal comes while the main thread is in C and Python cannot react; then a second one, into the last words.
BUSY_IN_C = """
import ctypes, os, signal, sys, threading, time
from unet_jax.runtime import signals

signals.GRACE = 0.2
def save():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3)
    return "saved step 5; run the same command to resume."

with signals.StopRequest() as stop:
    stop.anywhere(save)
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
    # As a compiler does, this goes on whatever the signals.
    end = time.time() + 30
    while (left := end - time.time()) > 0:
        ctypes.CDLL(None).poll(None, 0, int(1000 * left))
"""


def test_a_signal_between_steps_is_only_noted():
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    with StopRequest() as stop:
        assert not stop.asked
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            assert stop.asked
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before


def test_where_the_run_may_end_its_last_words_are_said_once():
    said = []
    with StopRequest() as stop:
        stop.anywhere(lambda: said.append("saved") or "saved step 3")
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopRequestedError, match="saved step 3"):
            stop.check()
    assert said == ["saved"]


def test_a_signal_from_before_counts_where_the_run_may_end():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(StopRequestedError, match="nothing was trained"):
            stop.anywhere(lambda: "nothing was trained")


def test_a_process_that_is_busy_outside_of_python_ends_all_the_same():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", BUSY_IN_C], cwd=PROJECT, env={"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert time.monotonic() - began < 15
    assert done.returncode == 3
    assert done.stderr == "stopping within a second\nsaved step 5; run the same command to resume.\n"


# Signals at these seconds; the main thread is in C all the while, in a step of eight seconds.
IN_A_STEP = """
import ctypes, os, signal, sys, threading, time
from unet_jax.errors import StopRequestedError
from unet_jax.runtime import signals

keeps = sys.argv[1] == "keeps"
with signals.StopRequest() as stop:
    stop.between_steps(8.4, (lambda: "saved step 4; run the same command to resume.") if keeps else None)
    for seconds in sys.argv[2:]:
        threading.Timer(float(seconds), os.kill, [os.getpid(), signal.SIGINT]).start()
    end = time.time() + 3
    while (left := end - time.time()) > 0:
        ctypes.CDLL(None).poll(None, 0, int(1000 * left))
    stop.between_steps()
    print("saved step 5")
"""


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        # A second signal ends the step; one that comes with the first, by way of the process group, does not.
        (["keeps", 0.1, 1.0], 3, "", "; again to stop now\nsaved step 4; run the same command to resume.\n"),
        (["keeps", 0.1, 0.2], 0, "saved step 5\n", "; again to stop now\n"),
        # Where nothing could be saved, the step is waited for.
        (["waits", 0.1, 1.0], 0, "saved step 5\n", "\n"),
    ],
)
def test_a_signal_in_a_step_is_answered_at_once_and_a_second_one_ends_it(arguments, code, out, err):
    done = subprocess.run(
        [sys.executable, "-c", IN_A_STEP, *map(str, arguments)],
        cwd=PROJECT, env={"PYTHONPATH": "."}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr == f"stopping after this step, up to 8 s{err}"


def test_what_cannot_be_saved_is_said_with_its_own_code():
    program = BUSY_IN_C.replace('return "saved step 5; run the same command to resume."', "raise StorageError('full')")
    program = f"from unet_jax.errors import StorageError\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, env={"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (5, "stopping within a second\nerror: full\n")


def test_other_threads_get_no_signals():
    def listen():
        with StopRequest() as stop:
            found.append(stop.asked)

    found = []
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [False]
