"""Real runs, struck in child processes that keep to one core; tests/faults/kill.py does the same at random."""

import re
import signal
import time

import pytest
from faults import kill


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def settings(folder):
    return kill.tiny_settings(folder)


@pytest.fixture(scope="module")
def server(folder):
    with kill.Server(folder / "compiled") as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(server, settings, folder):
    """What a run leaves that nothing struck."""
    answer = server.train(folder / "undisturbed", settings)
    assert (answer["code"], answer["left"]) == (0, []), answer["output"]
    return kill.left_by(folder / "undisturbed")


def test_two_runs_of_one_seed_are_the_same_to_the_bit(server, settings, undisturbed, folder):
    assert server.train(folder / "again", settings)["code"] == 0
    assert kill.left_by(folder / "again") == undisturbed
    assert [record["step"] for record in undisturbed["history"] if "epoch" not in record] == list(range(1, 19))
    assert [record["epoch"] for record in undisturbed["history"] if "epoch" in record] == [1, 2, 3]
    assert len(undisturbed["checkpoints"]) > 2 * 20


# Each of them strikes the run that goes on from what the one before has left: checkpoints are due every second step,
# and after the sixth, which closes an epoch.
STRIKES = [
    # before anything is saved
    {"at": "step", "n": 1},
    # in the first save: the folder is made; some data are there; all data; and all but the name
    {"at": "save", "n": 1, "match": "model.orbax-checkpoint-tmp"},
    {"at": "save", "n": 1, "seconds": 0.02},
    {"at": "save", "n": 1, "match": "manifest.json"},
    {"at": "save", "n": 1, "match": "manifest.json", "after": True},
    # in the save that closes the first epoch, while the oldest checkpoint is deleted
    {"at": "save", "n": 2, "match": "shutil.rmtree", "after": True},
    # in the second epoch, and at its end: its record is written, its checkpoint is not
    {"at": "step", "n": 3},
    {"at": "history", "n": 5, "after": True},
    # in its validation: stopped, then killed, then killed while what the stop has saved is replaced
    {"at": "case", "n": 1, "signal": signal.SIGTERM},
    {"at": "case", "n": 1},
    {"at": "save", "n": 1, "match": "deleting-12", "after": True},
    # in the third epoch
    {"at": "history", "n": 1, "after": False},
    {"at": "save", "n": 1, "event": 8},
]


FEW_STRIKES = [
    {"at": "save", "n": 1, "match": "manifest.json", "after": True},
    {"at": "save", "n": 2, "match": "shutil.rmtree", "after": True},
    {"at": "history", "n": 5, "after": True},
    {"at": "case", "n": 1, "signal": signal.SIGTERM},
    {"at": "save", "n": 1, "event": 8},
]


@pytest.mark.parametrize(
    ("strikes", "steps"),
    [
        pytest.param(FEW_STRIKES, [2, 6, 10, 12, 12], id="few"),
        pytest.param(STRIKES, [2, 6, 8, 10, 12, 12, 12, 12, 12], id="many", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_struck_again_and_again_leaves_the_same_to_the_bit(
    server, settings, undisturbed, folder, strikes, steps
):
    workdir, resumed = folder / f"struck{len(strikes)}", []
    for fault in [*strikes, None]:
        answer = server.train(workdir, settings, fault)
        resumed += [int(step) for step in re.findall(r"Resuming from step (\d+)", answer["output"])]
        if fault:
            assert answer["struck"], (fault, answer)
            assert answer["code"] == (3 if "signal" in fault else -signal.SIGKILL), answer["output"]
    assert (answer["code"], answer["left"]) == (0, []), answer["output"]
    assert resumed == steps
    assert kill.left_by(workdir) == undisturbed


def test_a_second_signal_ends_a_slow_step_and_loses_that_alone(server, settings, undisturbed, folder):
    """In the fifth step, which lasts ten seconds; every step is taken for a slow one."""
    workdir, fault = folder / "twice", {"at": "slow step", "n": 5, "after": [0.1, 1.0], "signal": signal.SIGINT}
    answer = server.train(workdir, settings | {"train.checkpoint_every_steps": 0}, fault)
    assert (answer["code"], answer["left"]) == (3, []), answer["output"]
    said = [line for line in answer["output"].splitlines() if line.startswith(("stopping", "saved", "error"))]
    assert re.fullmatch(r"stopping after this step, up to (\d+ s|a second); again to stop now", said[0])
    assert said[1:] == ["saved step 4; run the same command to resume."]
    answer = server.train(workdir, settings)
    assert "Resuming from step 4, in epoch 1." in answer["output"]
    assert kill.left_by(workdir) == undisturbed


# In the first step: later, a worker may have made all its batches already.
WORKER_STRIKES = [
    ({"signal": signal.SIGKILL, "to": "worker"}, 7, r"error: The next batch cannot be made .*exit code -9"),
    ({"signal": signal.SIGSTOP, "to": "worker"}, 7, r"no sign of a batch from the worker processes for .* stopped"),
]
GROUP_STRIKES = [
    ({"signal": signal.SIGTERM, "to": "group", "times": 2}, 3, r"saved step \d+; run the same command to resume\."),
    ({"signal": signal.SIGINT, "to": "group"}, 3, r"saved step \d+; run the same command to resume\."),
    ({"signal": signal.SIGKILL, "to": "self"}, -signal.SIGKILL, ""),
]


@pytest.fixture(scope="module")
def with_workers(settings):
    return settings | {"data.workers": 2, "data.wait_seconds": 5.0}


def _strike(server, workdir, settings, fault):
    """What the run ended with, and whether within a minute."""
    began = time.monotonic()
    answer = server.train(workdir, settings, {"at": "step", "n": 1} | fault)
    return answer, time.monotonic() - began < 60


def _ended(answer, line):
    # the watchdog's dump of all stacks is no traceback
    complained = "Traceback" in answer["output"]
    return answer["code"], answer["left"], bool(re.search(line, answer["output"])), complained


# A run of its own each: how far one gets depends on how many batches the worker had made.
@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code", "line"), WORKER_STRIKES)
def test_a_worker_process_that_is_struck_ends_the_run(server, with_workers, folder, fault, code, line):
    answer, in_time = _strike(server, folder / f"worker-{fault['signal']}", with_workers, fault)
    assert in_time
    assert _ended(answer, line) == (code, [], True, False), answer["output"]


@pytest.mark.slow
def test_worker_processes_leave_nothing_behind(server, with_workers, undisturbed, folder):
    workdir = folder / "workers"
    for fault, code, line in GROUP_STRIKES:
        answer, in_time = _strike(server, workdir, with_workers, fault)
        assert in_time
        assert _ended(answer, line) == (code, [], True, False), answer["output"]
    answer = server.train(workdir, with_workers)
    assert (answer["code"], answer["left"]) == (0, []), answer["output"]
    assert kill.left_by(workdir) == undisturbed
