import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from unet_jax.errors import InputError
from unet_jax.models import weights
from unet_jax.sharding import data_mesh
from unet_jax.train import _initial_state, _optimizer, train

PROJECT = Path(__file__).parent.parent


def records(workdir):
    return [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_the_design_says(settings, configure, tmp_path, capsys):
    workdir = tmp_path / "run"
    metrics = train(configure(settings), workdir)
    assert {path.name for path in workdir.iterdir()} == {
        "config.json",
        "split.json",
        "checkpoints",
        "history.jsonl",
        "curves.png",
        "evaluation",
    }
    folder = workdir / "evaluation" / "test"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "cases.csv", "cases.png"}
    assert json.loads((folder / "metrics.json").read_text()) == metrics

    split = json.loads((workdir / "split.json").read_text())
    patients = [set(split[side]) for side in ("train", "val", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients)) == settings["phantom.patients"]
    assert metrics["patients"] == len(split["test"])

    epochs = [record for record in records(workdir) if "epoch" in record]
    assert [record["epoch"] for record in epochs] == [1, 2, 3]
    steps = [record["step"] for record in records(workdir) if "epoch" not in record]
    assert steps == list(range(1, epochs[-1]["step"] + 1))
    # The totals that live with the state are the mean of the steps' losses.
    last = [r["loss"] for r in records(workdir) if "epoch" not in r and r["step"] > epochs[1]["step"]]
    assert epochs[2]["train_loss"] == pytest.approx(np.mean(last), rel=1e-5)
    saved = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    best = max(epochs, key=lambda record: record["val_dice"])
    assert saved == {best["step"], epochs[-1]["step"]}
    assert metrics["checkpoint_step"] == best["step"]

    # The same command again scores the finished run, trains nothing, and says how to train anew.
    before = records(workdir)
    capsys.readouterr()
    assert train(configure(settings), workdir)["dice_per_patient"] == metrics["dice_per_patient"]
    assert records(workdir) == before
    assert "name another --workdir" in capsys.readouterr().out

    # Another config is refused, and what lies there stays.
    with pytest.raises(InputError, match=r"config\.model\.width: the run has 2, this command 3") as error:
        train(configure(settings | {"model.width": 3, "seed": 1}), workdir)
    assert "config.seed: the run has 0, this command 1" in str(error.value)
    assert records(workdir) == before


def test_a_killed_run_goes_on_at_its_last_checkpoint(settings, tmp_path):
    workdir = tmp_path / "run"
    settings = settings | {"train.epochs": 8}
    command = [
        sys.executable, "main.py", "--config=configs/default.py", f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in settings.items()),
    ]  # fmt: skip
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    first = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    history = workdir / "history.jsonl"
    deadline = time.monotonic() + 120
    while not (history.exists() and history.read_text().count("\n") > 8):
        assert first.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    newest = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    assert newest >= 2

    second = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert f"Going on from step {newest}" in second.stdout
    steps = [record["step"] for record in records(workdir) if "epoch" not in record]
    assert steps == list(range(1, steps[-1] + 1))
    epochs = [record["epoch"] for record in records(workdir) if "epoch" in record]
    assert epochs == list(range(1, 9))


def test_the_same_seed_gives_the_same_run_and_another_seed_another(settings, configure, tmp_path):
    losses = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train(configure(settings | {"seed": seed, "train.epochs": 1}), tmp_path / name)
        losses.append([record["loss"] for record in records(tmp_path / name) if "epoch" not in record])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    # Another split may have another number of steps.
    assert not np.allclose(losses[0][:4], losses[2][:4], rtol=1e-3)


def test_what_cannot_be_trained_is_said_before_anything_is_written(settings, configure, tmp_path):
    for change, message in (
        ({"data.image_size": 15}, r"divide by 2"),
        ({"train.batch_size": 10_000}, r"config\.train\.batch_size=10000"),
        ({"optim.name": "adagrad"}, r"config\.optim\.name"),
        ({"optim.schedule": "linear"}, r"config\.optim\.schedule"),
        ({"loss": {"crossentropy": 1.0}}, r"config\.loss"),
        ({"eval.checkpoint": "last"}, r"config\.eval\.checkpoint is 'last'"),
        ({"train.epochs": 0}, r"config\.train\.epochs is 0"),
        ({"data.slab": 4}, r"config\.model\.rank is 2 and config\.data\.slab is 4"),
        ({"eval.postprocess.minimum_voxels": -1}, r"minimum_voxels is -1"),
    ):
        with pytest.raises(InputError, match=message):
            train(configure(settings | change), tmp_path / "run")
        assert not (tmp_path / "run").exists(), change


def test_a_loss_that_is_no_number_ends_the_run(settings, configure, tmp_path):
    diverging = settings | {"optim.name": "sgd", "optim.learning_rate": 1e30, "optim.warmup_steps": 0}
    with pytest.raises(InputError, match=r"The loss of step \d+ is nan: .*learning_rate"):
        train(configure(diverging), tmp_path / "run")
    assert all(np.isfinite(record["loss"]) for record in records(tmp_path / "run"))


def test_a_3d_run_with_everything_switched_on(settings, configure, tmp_path):
    config = configure(
        settings | {"data.slab": 4, "data.tumour_share": 0.5, "border_weights.w0": 5.0, "train.epochs": 1}
    )
    with config.unlocked():
        config.model.update({"rank": 3, "norm": "instance", "dropout": 0.1, "deep_supervision": True, "depth": 3})
    metrics = train(config, tmp_path / "run")
    assert metrics["slices"] > 4
    assert metrics["hd95_per_patient"]["unit"] == "pixels"
    assert all(np.isfinite(record["loss"]) for record in records(tmp_path / "run") if "loss" in record)


def test_training_starts_from_the_weights_it_is_given(settings, configure, tmp_path):
    config = configure(settings)
    optimizer, _ = _optimizer(config, 1)
    _, given = _initial_state(config, 3, optimizer, data_mesh())
    weights.save(tmp_path, given.params, given.batch_stats, {"name": "tutorial"})
    config = configure(settings | {"seed": 9, "train.initial_weights": str(tmp_path)})
    _, state = _initial_state(config, 3, optimizer, data_mesh())
    jax.tree.map(np.testing.assert_array_equal, state.params, given.params)
