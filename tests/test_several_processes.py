"""The program on two real processes: what they leave is what one leaves, and what happens to one happens to both."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import disks
import pytest
from processes import free_port, run, started
from several_runs import assert_same_run, metrics

from unet_jax.data import splits
from unet_jax.data.load import load
from unet_jax.data.pipeline import training_batches
from unet_jax.data.slices import Slices
from unet_jax.runtime.lock import lock_folder
from unet_jax.training.train import train

# Two cases to validate and two to test, one for each process; masks that are not empty.
SETTINGS = {
    "train.epochs": 2,
    "data.val_fraction": 0.25,
    "data.test_fraction": 0.25,
    "optim.learning_rate": 0.01,
    "eval.choose_threshold": True,
}


def flags(settings):
    return ["--config=configs/default.py", *(f"--config.{key}={value}" for key, value in settings.items())]


@pytest.fixture(scope="module")
def chosen(settings):
    return settings | SETTINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def one(chosen, configure, folder):
    """The run of one process."""
    train(configure(chosen), folder / "one")
    return folder / "one"


@pytest.fixture(scope="module")
def two(chosen, folder):
    """The run of two processes, and what they said."""
    workdir = folder / "two"
    with started([*flags(chosen), f"--workdir={workdir}"], folder / "output of two") as running:
        assert running.codes() == [0, 0], running.said()
        return workdir, [path.read_text() for path in running.outputs]


def files(workdir):
    return {
        path.relative_to(workdir).as_posix()
        for path in workdir.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts and "checkpoints" not in path.parts
    }


def without_newest_checkpoint(workdir, copy):
    """What a run that was killed after its last checkpoint but one has left."""
    shutil.copytree(workdir, copy)
    steps = sorted(int(path.name) for path in (copy / "checkpoints").iterdir())
    shutil.rmtree(copy / "checkpoints" / str(steps[-1]))
    shutil.rmtree(copy / "evaluation")
    return copy


def test_two_processes_leave_what_one_leaves(one, two):
    workdir, outputs = two
    assert_same_run(workdir, one)
    assert metrics(one)["dice_per_patient"]["mean"] > 0
    assert json.loads((workdir / "threshold.json").read_text()) == json.loads((one / "threshold.json").read_text())
    assert files(workdir) == files(one)
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    assert outputs[0].startswith("2 processes, 2 devices (cpu), mesh: data 2.\n")
    assert "Trained 2 epochs" in outputs[0]
    assert "Trained 2 epochs" not in outputs[1]


def test_a_run_of_two_is_resumed_by_one(one, two, chosen, configure, tmp_path):
    workdir = without_newest_checkpoint(two[0], tmp_path / "run")
    train(configure(chosen), workdir)
    assert_same_run(workdir, one)


def test_a_run_of_one_is_resumed_by_two(one, chosen, tmp_path):
    workdir = without_newest_checkpoint(one, tmp_path / "run")
    with started([*flags(chosen), f"--workdir={workdir}"], tmp_path) as running:
        assert running.codes() == [0, 0], running.said()
        assert "Resuming from step" in running.outputs[0].read_text(), running.said()
    assert_same_run(workdir, one)


def test_a_signal_to_one_stops_both_and_is_no_loss(one, chosen, configure, tmp_path):
    with started([*flags(chosen), f"--workdir={tmp_path / 'run'}"], tmp_path) as running:
        running.wait_for("epoch 1/2")
        running.processes[1].send_signal(signal.SIGTERM)
        assert running.codes(60) == [3, 3], running.said()
        for lines in running.last_words():
            assert len(lines) == 1, running.said()
            assert "run the same command to resume" in lines[0], running.said()
    train(configure(chosen), tmp_path / "run")
    assert_same_run(tmp_path / "run", one)


def test_two_score_and_predict_what_one_does(one, two, phantom_files, tmp_path):
    from unet_jax.evaluation.evaluate import evaluate
    from unet_jax.inference.predict import predict

    shutil.copytree(one, tmp_path / "one")
    shutil.copytree(one, tmp_path / "two")
    evaluate(tmp_path / "one", side="train")
    with started(["--mode=evaluate", "--split=train", f"--workdir={tmp_path / 'two'}"], tmp_path) as running:
        assert running.codes() == [0, 0], running.said()
    assert metrics(tmp_path / "two", "train") == metrics(tmp_path / "one", "train")

    predict(one, phantom_files, tmp_path / "masks of one")
    arguments = [
        "--mode=predict",
        f"--workdir={one}",
        f"--input={phantom_files}",
        f"--output={tmp_path / 'masks of two'}",
    ]
    with started(arguments, tmp_path) as running:
        assert running.codes() == [0, 0], running.said()
    expected = {path.name: path.read_bytes() for path in (tmp_path / "masks of one").rglob("*") if path.is_file()}
    found = {path.name: path.read_bytes() for path in (tmp_path / "masks of two").rglob("*") if path.is_file()}
    assert len(found) > 8
    assert found == expected


def ends(arguments, folder, code, line, each=None):
    """Runs two processes that end with this code and line, within seconds of each other."""
    with started(arguments, folder, each=each) as running:
        while all(process.poll() is None for process in running.processes):
            time.sleep(0.05)
        assert running.codes(20) == [code, code], running.said()
        assert all(len(lines) == 1 and line in lines[0] for lines in running.errors()), running.said()


@pytest.mark.parametrize("number", [0, 1])
def test_a_slip_of_one_ends_both(number, chosen, tmp_path):
    """Before they have met: the other one would wait for it."""
    line = "config.model.widht is not a key; did you mean config.model.width?"
    slip = {number: ["--config.model.widht=3"]}
    with started([*flags(chosen), f"--workdir={tmp_path / 'run'}"], tmp_path, each=slip) as running:
        running.wait_for(line, 1 - number)
        assert running.codes(20) == [2, 2], running.said()
        assert running.errors()[number] == [f"error: {line}"]
        assert running.errors()[1 - number] == [f"error: process {number}: {line}"]


def test_waiting_for_the_others_can_be_interrupted(chosen, tmp_path):
    command = [sys.executable, "main.py", *flags(chosen), f"--workdir={tmp_path / 'run'}"]
    command += [f"--coordinator=localhost:{free_port()}", "--processes=2", "--process=0"]
    running = run([command], tmp_path, os.environ | {"JAX_PLATFORMS": "cpu"})
    try:
        while not catches(running.processes[0].pid, signal.SIGINT, signal.SIGTERM):
            assert running.processes[0].poll() is None, running.said()
            time.sleep(0.05)
        running.processes[0].send_signal(signal.SIGINT)
        assert running.codes(20) == [3], running.said()
        assert "stopped; run the same command again." in running.said().splitlines()
    finally:
        running.kill()


def catches(process, *signals):
    """Whether a process has handlers of its own for these signals: a mask, from 1, in what the system says of it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = int(next(line for line in lines if line.startswith("SigCgt:")).split()[1], 16)
    return all(caught >> (number - 1) & 1 for number in signals)


def test_not_a_number_ends_both_with_the_slices_of_both(chosen, configure, tmp_path):
    diverging = chosen | {"optim.learning_rate": 1e30, "train.epochs": 1}
    with started([*flags(diverging), f"--workdir={tmp_path / 'run'}"], tmp_path) as running:
        assert running.codes() == [6, 6], running.said()
        first, second = running.errors()
    assert first == second
    [line] = first
    step = int(re.match(r"error: process [01]: The \w+ of step (\d+) is NaN or infinite,", line)[1])

    cases = load(configure(diverging)).cases
    training = splits.slices_of(splits.read(tmp_path / "run" / "split.json", cases), cases, "train")
    batches = training_batches(Slices(cases, training), batch_size=diverging["train.batch_size"], seed=0, epochs=1)
    batch = list(batches)[step - 1]
    named = {}
    for position, number in zip(batch["case"], batch["slice"], strict=True):
        named.setdefault(cases[position].name, []).append(str(number))
    listed = "; ".join(f"{name} {', '.join(numbers)}" for name, numbers in named.items())
    assert line.endswith(f"slices: {listed}.")


def test_another_config_on_one_ends_both(chosen, tmp_path):
    line = "error: process 1 has config.optim.weight_decay=0.5, and process 0 0.0"
    arguments = [*flags(chosen), f"--workdir={tmp_path / 'run'}", "--config.optim.weight_decay=0.0"]
    ends(arguments, tmp_path, 2, line, {1: ["--config.optim.weight_decay=0.5"]})
    assert not (tmp_path / "run").exists()


def test_other_data_on_one_end_both(chosen, phantom_files, tmp_path):
    shutil.copytree(phantom_files, tmp_path / "data")
    scan = next((tmp_path / "data").glob("*/*_1.tif"))
    shutil.copy(scan.with_name(scan.name.replace("_1.tif", "_2.tif")), scan)
    arguments = [*flags(chosen), f"--workdir={tmp_path / 'run'}", "--config.data.source=lgg"]
    each = {0: [f"--config.data.root={phantom_files}"], 1: [f"--config.data.root={tmp_path / 'data'}"]}
    ends(arguments, tmp_path, 2, "error: process 1 has the data's fingerprint=", each)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_folder_in_use_ends_both(chosen, tmp_path):
    with lock_folder(tmp_path / "run"):
        ends([*flags(chosen), f"--workdir={tmp_path / 'run'}"], tmp_path, 9, "is in use by process")


def test_a_full_disk_on_one_ends_both(chosen, tmp_path):
    with disks.small_disk(tmp_path / "disk", "64k") as disk:
        line = f"error: process 1: config.data.cache={disk}"
        ends([*flags(chosen), f"--workdir={tmp_path / 'run'}"], tmp_path, 5, line, {1: [f"--config.data.cache={disk}"]})
