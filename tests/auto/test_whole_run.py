"""The command as it is typed, on a tiny data set: killed on the way, resumed, and used to predict."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel
import nnunet_raw
import numpy as np
import pytest

from unet_jax.plan import plan_file

ROOT = Path(__file__).parents[2]
# The second needs a first stage, which is trained too.
CONFIGURATIONS = ("2d", "3d_cascade_fullres")
# So little that nothing but the order of things is tested.
TINY = {
    "data.folds": 2,
    "data.val_fraction": 0.3,
    "plan.configurations": CONFIGURATIONS,
    "train.epochs": 1,
    "train.steps_per_epoch": 3,
    "train.tensorboard": False,
    "optim.learning_rate": 0.03,
    "eval.tta": False,
}


def main(*arguments):
    return [sys.executable, "main.py", *map(str, arguments)]


def killed(command, folder):
    """Ends a command without warning once it has begun to train in the folder."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (folder / "config.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


@pytest.fixture(scope="module")
def command(config, raw, tmp_path_factory):
    """The command line, without the mode and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    planned = config.copy_and_resolve_references()
    planned.plan.configuration, planned.plan.configurations = "2d", None
    plan_file.write_plans(folder / "plan.json", nnunet_raw.tiny_plan(planned, memory_gb=0.008))
    settings = TINY | {
        "data.root": raw,
        "data.cache": folder / "cache",
        "plan.file": folder / "plan.json",
        "train.compilation_cache": os.environ["JAX_COMPILATION_CACHE_DIR"],
    }
    return ["--config=configs/nnunet.py", *(f"--config.{key}={value}" for key, value in settings.items())]


@pytest.mark.slow
def test_plan_train_kill_resume_choose_predict_export(command, raw, tmp_path):
    workdir = tmp_path / "run"
    whole = main(*command, f"--workdir={workdir}")
    # One machine's share, and then the rest, which is killed in the second configuration.
    share = main(*command, f"--workdir={workdir}", "--configuration=2d", "--fold=1")
    done = subprocess.run(share, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "once all are, the same command chooses" in done.stdout
    assert [path.name for path in (workdir / "2d").iterdir()] == ["fold1"]
    killed(whole, workdir / CONFIGURATIONS[-1] / "fold0")
    done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "the choice" in done.stdout
    assert "2d, fold 0:" not in done.stdout
    assert all((workdir / name / f"fold{fold}").is_dir() for name in CONFIGURATIONS for fold in (0, 1))
    assert "3d_lowres is trained too" in done.stdout

    best = json.loads((workdir / "best.json").read_text())
    assert set(best["configurations"]) <= {"3d_lowres", *CONFIGURATIONS}
    assert {"2d", CONFIGURATIONS[-1], f"2d + {CONFIGURATIONS[-1]}"} <= {
        each["name"] for each in best["results"]["candidates"]
    }
    shown = subprocess.run(
        main("--mode=evaluate", f"--workdir={workdir}"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "→ " in shown.stdout
    predict = main(
        "--mode=predict", f"--workdir={workdir}", f"--input={raw / 'imagesTr'}", f"--output={tmp_path / 'masks'}"
    )
    subprocess.run(predict, cwd=ROOT, capture_output=True, text=True, check=True)
    masks = sorted((tmp_path / "masks").glob("*_mask.nii.gz"))
    assert len(masks) == 6
    for path in masks:
        assert set(np.unique(nibabel.load(path).get_fdata())) <= {0, 1, 2}

    # A cascade's second network cannot be one file; then a run is exported.
    exported = workdir / "2d" / "fold0" if CONFIGURATIONS[-1] in best["configurations"] else workdir
    file = tmp_path / "balls.zip"
    export = main("--mode=export", f"--workdir={exported}", f"--output={file}", f"--data={raw / 'imagesTr'}")
    subprocess.run(export, cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("metadata.json"))["mask_differs"] < 1e-3
