import itertools
import json
import re
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import unet_jax
from unet_jax.data import cache
from unet_jax.data.formats import lgg
from unet_jax.data.load import load
from unet_jax.errors import InputError, NumbersError
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.export.export import export
from unet_jax.inference.predict import predict
from unet_jax.run import history
from unet_jax.training import feed
from unet_jax.training.train import train


def records(workdir):
    return history.read(workdir)


def checkpoints(workdir):
    return {int(path.name) for path in (workdir / "checkpoints").iterdir()}


def test_a_run_leaves_what_the_design_says(settings, configure, tmp_path, capsys):
    workdir = tmp_path / "run"
    metrics = train(configure(settings), workdir)
    assert {path.name for path in workdir.iterdir()} == {
        "config.json",
        "data.json",
        "split.json",
        "checkpoints",
        "history.jsonl",
        "curves.png",
        "tensorboard",
        "evaluation",
    }
    folder = workdir / "evaluation" / "test"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "cases.csv",
        "cases.png",
        "report.html",
        "manifest.json",
    }
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
    assert all(0 < record["val_loss"] < 2 for record in epochs)
    saved = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    best = max(epochs, key=lambda record: record["val_dice"])
    newest = epochs[-1]["step"]
    second_newest = max(range(0, newest, settings["train.checkpoint_every_steps"]))
    assert saved == {best["step"], second_newest, newest}
    assert metrics["checkpoint_step"] == best["step"]

    # The same command again scores the finished run, trains nothing, and says how to train again.
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


def test_a_dry_run_tells_memory_and_time_and_leaves_no_run(settings, configure, tmp_path, capsys):
    assert train(configure(settings), tmp_path / "deep" / "run", dry_run=True) == {}
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert re.search(r"^  memory      \d+\.\d\d GB on the host", out, re.MULTILINE)
    assert re.search(r"^  whole run   about .*: 3 epochs, 18 steps; without reading the data", out, re.MULTILINE)


def test_a_budget_of_steps_cuts_the_last_epoch_short_and_lays_the_schedule_out(settings, configure, tmp_path, capsys):
    """Epochs have 6 steps: of a budget of 8, the second has 2, and the cosine reaches its end there."""
    budget = settings | {"train.steps": 8, "train.minutes": 60.0, "optim.schedule": "cosine", "optim.warmup_steps": 0}
    train(configure(budget), tmp_path / "run")
    epochs = [record for record in records(tmp_path / "run") if "epoch" in record]
    assert [(record["epoch"], record["step"]) for record in epochs] == [(1, 6), (2, 8)]
    rates = [record["learning_rate"] for record in records(tmp_path / "run") if "epoch" not in record]
    peak = configure(budget).optim.learning_rate
    assert rates == pytest.approx([peak * (1 + np.cos(np.pi * step / 8)) / 2 for step in range(8)], rel=1e-4)
    assert json.loads((tmp_path / "run" / "budget.json").read_text())["steps"] > 8
    assert "epoch 2/2: " in capsys.readouterr().out
    with pytest.raises(InputError, match=r"train\.steps: the run has 8, this command 9; the learning rate's schedule"):
        train(configure(budget | {"train.steps": 9}), tmp_path / "run")


def test_what_cannot_be_trained_is_said_before_anything_is_written(settings, configure, tmp_path):
    for change, message in (
        ({"data.image_size": 15}, r"divide by 2"),
        ({"train.batch_size": 10_000}, r"config\.train\.batch_size=10000"),
        ({"optim.name": "adagrad"}, r"config\.optim\.name"),
        ({"optim.schedule": "linear"}, r"config\.optim\.schedule"),
        ({"loss": {"crossentropy": 1.0}}, r"config\.loss"),
        ({"eval.checkpoint": "last"}, r"config\.eval\.checkpoint is 'last'"),
        ({"train.nonfinite": "ignore"}, r"config\.train\.nonfinite is 'ignore'"),
        ({"train.epochs": 0}, r"config\.train\.epochs is 0"),
        ({"train.steps": 0}, r"config\.train\.steps is 0; it must be above 0"),
        ({"train.minutes": -1.0}, r"config\.train\.minutes is -1\.0"),
        ({"train.steps_per_dispatch": 0}, r"config\.train\.steps_per_dispatch is 0; it must be at least 1"),
        ({"data.ahead": -1}, r"config\.data\.ahead is -1; it must be at least 0"),
        ({"data.resident": "yes"}, r"config\.data\.resident is 'yes'; it must be one of auto, must, never"),
        ({"train.loggers": ("neptune",)}, r"config\.train\.loggers names 'neptune'"),
        ({"data.slab": 4}, r"config\.model\.rank is 2 and config\.data\.slab is 4"),
        ({"optim.ema_decay": 1.0}, r"config\.optim\.ema_decay is 1\.0"),
        ({"data.neighbours": -1}, r"config\.data\.neighbours is -1"),
        ({"eval.postprocess.minimum_voxels": -1}, r"minimum_voxels is -1"),
    ):
        with pytest.raises(InputError, match=message):
            train(configure(settings | change), tmp_path / "run")
        assert not (tmp_path / "run").exists(), change


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(settings, configure, tmp_path):
    diverging = settings | {"optim.name": "sgd", "optim.learning_rate": 1e30, "optim.warmup_steps": 0}
    diverging |= {"train.log_every_steps": 1000, "train.checkpoint_every_steps": 0, "optim.clip_norm": None}
    with pytest.raises(NumbersError, match=r"The loss of step 2 is NaN or infinite.*learning_rate.*Its cases") as error:
        train(configure(diverging), tmp_path / "run")
    named = re.findall(r"(TCGA_\w+) ([\d, ]+)", str(error.value))
    assert sum(len(slices.split(",")) for _, slices in named) == settings["train.batch_size"]
    assert records(tmp_path / "run") == []
    assert checkpoints(tmp_path / "run") == set()


def test_a_state_that_is_no_number_is_not_saved(settings, configure, tmp_path):
    """The step's loss and gradient are finite, and its update is not: the next step would tell."""
    diverging = settings | {"optim.name": "sgd", "optim.learning_rate": 3e38, "optim.warmup_steps": 0}
    diverging |= {"optim.clip_norm": None, "train.checkpoint_every_steps": 1, "loss": {"bce": 1000.0}}
    with pytest.raises(NumbersError, match=r"The state after step 1 is NaN or infinite in .*params.* not saved"):
        train(configure(diverging), tmp_path / "run")
    assert checkpoints(tmp_path / "run") == set()


@pytest.fixture
def step_5_fails(monkeypatch):
    """The training step, with infinite pixel weights in step 5, and so an infinite loss."""
    make = feed.global_batch
    number = itertools.count(1)

    def global_batch(batch, mesh):
        if next(number) == 5:
            batch["weights"] = batch["weights"] * np.float32(np.inf)
        return make(batch, mesh)

    monkeypatch.setattr(feed, "global_batch", global_batch)


@pytest.mark.usefixtures("step_5_fails")
def test_steps_can_be_skipped_up_to_a_limit(settings, configure, tmp_path):
    settings = settings | {"border_weights.w0": 1.0, "train.epochs": 1, "train.nonfinite": "skip"}
    train(configure(settings | {"train.nonfinite_limit": 1}), tmp_path / "run")
    [skipped] = [record for record in records(tmp_path / "run") if "nonfinite" in record]
    assert (skipped["step"], skipped["nonfinite"], skipped["skipped"]) == (5, "loss", 1)
    assert sum(map(len, skipped["slices"].values())) == settings["train.batch_size"]
    lines = [record for record in records(tmp_path / "run") if "loss" in record]
    assert [record["loss"] is None for record in lines] == [record["step"] == 5 for record in lines]
    assert [record["skipped"] for record in lines] == [int(record["step"] >= 5) for record in lines]
    assert np.isfinite(records(tmp_path / "run")[-1]["train_loss"])


@pytest.mark.usefixtures("step_5_fails")
def test_over_the_limit_the_run_ends_with_its_last_good_checkpoint(settings, configure, tmp_path):
    settings = settings | {"border_weights.w0": 1.0, "train.nonfinite": "skip", "train.nonfinite_limit": 0}
    with pytest.raises(NumbersError, match="The loss of step 5 is NaN or infinite"):
        train(configure(settings), tmp_path / "run")
    assert checkpoints(tmp_path / "run") == {2, 4}


@pytest.mark.slow
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


def test_a_run_with_averaged_weights_neighbours_and_a_chosen_threshold(settings, configure, tmp_path):
    """What is validated, scored, loaded and exported is the average; all of them see the same neighbours."""
    changes = {"optim.ema_decay": 0.9, "data.neighbours": 1, "eval.choose_threshold": True, "model.norm": "batch"}
    changes |= {"data.intensity": "volume", "data.tumour_share": 0.5, "eval.tta": True, "train.epochs": 1}
    changes |= {"eval.postprocess.largest_component": True}
    config = configure(settings | changes)
    workdir = tmp_path / "run"
    metrics = train(config, workdir)

    saved = workdir / "checkpoints" / str(metrics["checkpoint_step"])
    used, rest = (ocp.PyTreeCheckpointer().restore((saved / name).absolute()) for name in ("model", "training"))
    trained = jax.tree.leaves(rest["trained"])
    assert [leaf.shape for leaf in trained] == [leaf.shape for leaf in jax.tree.leaves(used)]
    assert any(not np.array_equal(*both) for both in zip(trained, jax.tree.leaves(used), strict=True))

    chosen = json.loads((workdir / "threshold.json").read_text())
    assert metrics["threshold"] == chosen["threshold"]
    assert chosen["validation_dice"][str(chosen["threshold"])] == max(chosen["validation_dice"].values())
    assert chosen["checkpoint_step"] == metrics["checkpoint_step"]
    # Validation is scored at 0.5 while the run lasts, and at the chosen threshold afterwards.
    validated = evaluate(workdir, side="val")["dice_per_patient"]["mean"]
    assert validated == pytest.approx(max(chosen["validation_dice"].values()))

    cases = load(config).cases
    predicted = predict(workdir, Path(config.data.root) / cases[0].name, tmp_path / "masks")
    segment = unet_jax.load(workdir)
    assert segment.channels == 3
    raw = lgg_case(config, cases[0].name)
    assert int(segment(raw).sum()) == predicted[0]["volume"]
    facts = export(workdir, tmp_path / "network.zip")
    assert (facts["neighbours"], facts["threshold"]) == (1, chosen["threshold"])
    assert facts["input"]["shape"] == ["batch", "height", "width", 9]


def lgg_case(config, name):
    """A case's pixels as its files have them."""
    cases, *_ = cache.load(lgg, Path(config.data.root), Path(config.data.cache))
    return next(np.asarray(case.image) for case in cases if case.name == name)
