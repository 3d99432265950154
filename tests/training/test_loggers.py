import sys
import types

import pytest

from unet_jax.errors import InputError
from unet_jax.training import loggers

CONFIG = {"seed": 0, "data": {"root": "data/kaggle_3m", "labels": None}}
STEP = {"step": 3, "loss": 0.25, "gradient_norm": None, "spikes": 0, "slices": ["a"]}
EPOCH = {"step": 4, "epoch": 1, "val_dice": 0.5, "classes": {"oedema": 0.75}}


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def _log(names, workdir):
    with loggers.opened(names, workdir, CONFIG) as logs:
        for record in (STEP, EPOCH):
            for log in logs:
                log(record["step"], loggers.scalars(record))


def test_the_numbers_of_a_record_have_the_names_that_tensorboard_shows():
    assert loggers.scalars(STEP) == {"train/loss": 0.25, "train/spikes": 0}
    assert loggers.scalars(EPOCH) == {"epoch": 1, "epoch/val_dice": 0.5, "epoch/classes/oedema": 0.75}


def test_none_is_the_default(tmp_path):
    with loggers.opened((), tmp_path, CONFIG) as logs:
        assert logs == []
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_none_of_them_is_refused():
    with pytest.raises(InputError, match=r"config\.train\.loggers names 'neptune'; there are mlflow, wandb"):
        loggers.check(("mlflow", "neptune"))


@pytest.mark.parametrize("name", loggers.NAMES)
def test_what_is_not_installed_is_said(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"pip install 'unet_jax\[{name}\]'"):
        _log([name], tmp_path)


class FakeClient:
    """What is called of MLflow's client."""

    calls: list

    def __init__(self, uri):
        self.calls.append(("uri", uri))

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "7"

    def search_runs(self, experiments, query, max_results):
        return []

    def create_run(self, experiment, tags, run_name):
        self.calls.append(("run", experiment, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))

    def log_param(self, run, key, value):
        self.calls.append(("param", key, value))

    def log_metric(self, run, name, value, step):
        self.calls.append(("metric", run, name, value, step))

    def set_terminated(self, run):
        self.calls.append(("end", run))


def test_mlflow_gets_the_config_once_and_each_number_with_its_step(tmp_path, monkeypatch):
    FakeClient.calls = []
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=FakeClient))
    _log(["mlflow"], tmp_path)
    assert FakeClient.calls == [
        ("uri", (tmp_path / "mlruns").as_uri()),
        ("run", "7", tmp_path.name),
        ("param", "seed", "0"),
        ("param", "data.root", "data/kaggle_3m"),
        ("param", "data.labels", "None"),
        ("metric", "r", "train/loss", 0.25, 3),
        ("metric", "r", "train/spikes", 0, 3),
        ("metric", "r", "epoch/number", 1, 4),
        ("metric", "r", "epoch/val_dice", 0.5, 4),
        ("metric", "r", "epoch/classes/oedema", 0.75, 4),
        ("end", "r"),
    ]


class FakeRun:
    def __init__(self):
        self.calls = []

    def log(self, numbers, step):
        self.calls.append((step, numbers))

    def finish(self):
        self.calls.append("end")


def test_wandb_is_offline_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    run, options = FakeRun(), []
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **given: options.append(given) or run))
    _log(["wandb"], tmp_path)
    assert options[0] == {
        "project": "unet_jax", "name": tmp_path.name, "dir": str(tmp_path), "config": CONFIG, "mode": "offline",
    }  # fmt: skip
    assert run.calls == [(3, loggers.scalars(STEP)), (4, loggers.scalars(EPOCH)), "end"]
    monkeypatch.setenv("WANDB_MODE", "online")
    _log(["wandb"], tmp_path)
    assert options[1]["mode"] == "online"


def test_a_logger_that_fails_is_left_out_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    run = FakeRun()
    monkeypatch.setattr(FakeClient, "calls", [])
    monkeypatch.setattr(FakeClient, "log_metric", lambda *_, **__: (_ for _ in ()).throw(OSError("no route\nto host")))
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=FakeClient))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **_: run))
    _log(["mlflow", "wandb"], tmp_path)
    assert capsys.readouterr().err == "warning: mlflow gets nothing from here on: no route\n"
    assert len(run.calls) == 3


def test_mlflow_itself_keeps_the_numbers_in_the_runs_folder_and_continues_its_run(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    _log(["mlflow"], tmp_path)
    _log(["mlflow"], tmp_path)
    [path] = (tmp_path / "mlruns").rglob("metrics/epoch/val_dice")
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [(float(value), int(step)) for _, value, step, *_ in lines] == [(0.5, 4), (0.5, 4)]
    assert [path.read_text() for path in (tmp_path / "mlruns").rglob("params/data.root")] == ["data/kaggle_3m"]


def test_wandb_itself_writes_an_offline_run(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    _log(["wandb"], tmp_path)
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    [events] = folder.glob("*.wandb")
    assert events.stat().st_size > 0
    assert b"val_dice" in events.read_bytes()
