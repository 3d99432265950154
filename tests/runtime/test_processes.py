"""Real processes on the loopback interface, which do nothing but meet, add numbers and end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import PROJECT, Running, free_port, run

from unet_jax.errors import InputError
from unet_jax.runtime import processes

# What each does: its part of the dictionary in its second argument.
CHILD = """
import json, os, sys, time
import jax, numpy as np
from unet_jax import errors
from unet_jax.runtime import exchange, mesh, peers, processes
from unet_jax.runtime.command_line import run_and_report

port, acts = sys.argv[1], json.loads(sys.argv[2])
number = int(sys.argv[3])
peers.SILENCE = acts.get("silence", peers.SILENCE)
act = acts.get(str(number), "")

def run():
    print(processes.join(f"localhost:{port}", acts["count"], number, meeting=60), flush=True)
    if act == "gather":
        found = [part.decode() for part in exchange.gather(str(number).encode())]
        assert exchange.collect(bytes(2**23)) == ([bytes(2**23)] * 2 if number == 0 else [])
        assert exchange.by_primary(lambda: number) == 0
        exchange.agree({"a": 1, "b": None})
        assert not exchange.told("it")
        exchange.barrier()
        if number == 1:
            exchange.tell("it")
            exchange.tell("it")
        exchange.barrier()
        assert exchange.told("it")
        ask = mesh.any_process(mesh.data_mesh())
        answers = [bool(ask(False)), bool(ask(number == 1)), bool(ask(number == 0))]
        print(json.dumps([found, answers]), file=sys.stderr)
        return
    if act == "agree":
        exchange.agree({"a": 1, "b": number if number == 1 else 0})
    total = mesh.any_process(mesh.data_mesh())
    for step in range(2000):
        total(False).block_until_ready()
        if step == 5:
            print("under way", file=sys.stderr, flush=True)
        if step == 10 and act == "error":
            raise errors.StorageError("the disk is full.")
        if step == 10 and act == "bug":
            raise KeyError("nothing")
        if step == 10 and act == "last words":
            from unet_jax.runtime.watchdog import end_process
            end_process("stopped here.", 3)
        time.sleep(0.02)

sys.exit(run_and_report(run))
"""


def start(folder: Path, acts: dict, count: int = 2) -> Running:
    port = str(free_port())
    text = json.dumps(acts | {"count": count})
    commands = [[sys.executable, "-c", CHILD, port, text, str(number)] for number in range(count)]
    return run(commands, folder, os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"})


def test_what_is_gathered_and_agreed(tmp_path):
    running = start(tmp_path, {"0": "gather", "1": "gather"})
    assert running.codes() == [0, 0], running.said()
    lines = [output.read_text().splitlines() for output in running.outputs]
    assert "2 processes, 2 devices (cpu), mesh: data 2." in lines[0]
    assert "2 processes, 2 devices (cpu), mesh: data 2." not in lines[1]  # what is printed is printed once
    expected = json.dumps([["0", "1"], [False, True, True]])
    assert all(expected in of_one for of_one in lines), running.said()


@pytest.mark.parametrize(
    ("act", "code", "line"),
    [
        ("error", 5, "error: process {0}: the disk is full."),
        ("bug", 1, "error: process {0}: KeyError, a bug: its traceback is in the output of that process."),
        ("last words", 3, "process {0}: stopped here."),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_the_end_of_one_is_that_of_all(tmp_path, act, code, line, number):
    running = start(tmp_path, {str(number): act})
    try:
        running.wait_for("under way", number)
        began = time.monotonic()
        assert running.codes() == [code, code], running.said()
        assert time.monotonic() - began < 20  # a quarter of that where nothing else runs
        assert running.last_words() == [[line.format(number)]] * 2
    finally:
        running.kill()


def test_what_differs_is_named_everywhere(tmp_path):
    running = start(tmp_path, {"0": "agree", "1": "agree"})
    try:
        assert running.codes() == [2, 2], running.said()
        line = "error: process 1 has b=1, and process 0 0: start all of them with the same command."
        assert running.errors() == [[line], [line]]
    finally:
        running.kill()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(
    ("acts", "allowed"),
    [
        pytest.param({"silence": 4}, 15, id="in a tenth of the time"),
        pytest.param({}, 60, id="in the time that a process really has", marks=pytest.mark.longest),
    ],
)
def test_one_that_is_killed_or_stopped_ends_the_other(tmp_path, number, kind, acts, allowed):
    running = start(tmp_path, acts)
    try:
        for each in (0, 1):
            running.wait_for("under way", each)
        began = time.monotonic()
        running.processes[number].send_signal(kind)
        assert running.codes(60, of=[1 - number]) == [7], running.said()
        seconds = time.monotonic() - began
        print(f"{kind.name} of process {number}: the other one ended after {seconds:.1f} s")
        assert seconds < allowed
        [line] = running.errors()[1 - number]
        assert line.startswith(f"error: process {number} has died, hangs or cannot be reached"), line
        if kind == signal.SIGSTOP:  # it ends when it wakes
            running.processes[number].send_signal(signal.SIGCONT)
            assert running.codes(30) == [7, 7]
    finally:
        running.kill()


@pytest.mark.longest
@pytest.mark.parametrize("number", [1, 2])
def test_one_of_four_that_is_killed_is_missed_at_once(tmp_path, number):
    """The first process may have no part in the sum that breaks, and is told of it."""
    running = start(tmp_path, {}, count=4)
    try:
        for each in range(4):
            running.wait_for("under way", each)
        began = time.monotonic()
        running.processes[number].kill()
        others = [each for each in range(4) if each != number]
        assert running.codes(60, of=others) == [7] * 3, running.said()
        seconds = time.monotonic() - began
        print(f"SIGKILL of process {number} of 4: the others ended after {seconds:.1f} s")
        assert seconds < 20
        for each in others:
            [line] = running.errors()[each]
            assert line.startswith(f"error: process {number} has died, hangs or cannot be reached"), line
    finally:
        running.kill()


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_nobody_meets_says_so(number):
    address = f"localhost:{free_port()}"
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from unet_jax.runtime import processes; processes.join({address!r}, 2, {number}, meeting=2)",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 7, child.stderr
    line = f"error: process {number} of 2 did not meet the others at {address} within 2 s: start all of them"
    assert child.stderr.startswith(line), child.stderr


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        child = subprocess.run(
            [sys.executable, "-c", f"from unet_jax.runtime import processes; processes.join({address!r}, 2, 0)"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert f"InputError: --coordinator={address}: the port cannot be had (Address already in use" in child.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "--processes and --process are given without --coordinator"),
        (("node1:1234", 2, None), "--coordinator needs --processes=N"),
        (("node1", 2, 0), "--coordinator=node1: give a host and a port"),
        (("node1:1234", 2, 2), "--process is 2; it must be from 0 to 1"),
        ((None, None, None), "--distributed: this is no process of SLURM, Open MPI, Kubernetes or a TPU pod"),
    ],
)
def test_a_way_in_that_leads_nowhere(arguments, message):
    with pytest.raises(InputError, match=message):
        processes.join(*arguments)


# As the schedulers' own documents have them.
SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # jax takes the port from the job's number: 65535 - 4096 + 1 + 4242 % 4096, and 1531576320 / 4096 % 4096.
        (SLURM, (f"node07:{61440 + 146}", 2, 1, [0])),
        (OPEN_MPI, (f"10.96.0.1:{61440 + 373920 % 4096}", 4, 3, [1])),
    ],
)
def test_what_schedulers_say_is_found(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.found(None, None, None) == expected
