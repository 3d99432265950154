import pytest
from processes import started

from unet_jax.auto import best as best_file


@pytest.mark.slow
def test_two_processes_choose_as_one_does(workdir, config, tmp_path):
    keys = (
        *("data.root", "data.cache", "data.folds", "data.val_fraction", "plan.file", "plan.configurations"),
        *("train.epochs", "train.steps_per_epoch", "train.tensorboard", "optim.learning_rate", "eval.tta"),
    )
    flat = {key: config[key.split(".")[0]][key.split(".")[1]] for key in keys}
    chosen = [f"--config.{key}={value}" for key, value in flat.items()]
    arguments = ["--config=configs/nnunet.py", *chosen, f"--workdir={tmp_path / 'runs'}"]
    with started(arguments, tmp_path) as running:
        assert running.codes(1800) == [0, 0], running.said()
    found, expected = best_file.read(tmp_path / "runs"), best_file.read(workdir)
    assert (found.configurations, found.folds) == (expected.configurations, expected.folds)
    for ours, theirs in zip(found.results["candidates"], expected.results["candidates"], strict=True):
        assert ours["name"] == theirs["name"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=0.02)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {path.name for path in workdir.iterdir()}
