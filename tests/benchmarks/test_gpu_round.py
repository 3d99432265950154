import signal
import sys

import pytest

from benchmarks import gpu_round, results, synthetic_volumes, table
from unet_jax.data.formats import layouts


def test_each_step_has_a_place_of_its_own_and_all_fit_in_eight_minutes(tmp_path):
    steps = gpu_round.steps(tmp_path, tiny=False)
    assert len({step.name for step in steps}) == len(steps)
    assert sum(step.estimate for step in steps) <= 480


@pytest.mark.parametrize(
    ("program", "code", "lines"),
    [
        ("print('whole')", 0, None),
        ("import sys; print('first'); sys.exit('what was wrong')", 1, ["first", "what was wrong"]),
        ("import time; print('begun', flush=True); time.sleep(60)", -signal.SIGKILL, ["begun"]),
    ],
)
def test_a_step_says_how_it_ended(tmp_path, program, code, lines):
    step = gpu_round.Step("x", 1, ("-c", program))
    found = gpu_round.run(step, tmp_path, limit=1.5)
    assert found["code"] == code
    assert found["seconds"] < 30
    assert found.get("last_lines") == lines or set(lines) == set(found["last_lines"])


def test_a_training_is_stopped_as_its_user_would():
    program = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); time.sleep(60)"
    code, _ = gpu_round._process(("-c", program), 1.5, stopped_by=signal.SIGTERM)
    assert code == 7


def test_only_what_is_left_is_done(tmp_path, monkeypatch):
    made = {"slices": {"seconds": 1.0, "code": 0}, "volumes_128": {"seconds": 1.0, "code": 1, "last_lines": ["no"]}}
    results.write(gpu_round.NAME, made, tmp_path)
    ran = []

    def run(step, work, limit):
        ran.append(step.name)
        return {"seconds": 0.0, "code": 0}

    monkeypatch.setattr(gpu_round, "run", run)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu_round"])
    gpu_round.flags.FLAGS(["gpu_round", "--seconds=200"])
    gpu_round.main(None)
    assert ran == [step.name for step in gpu_round.steps(tmp_path, tiny=False) if step.name != "slices"]
    assert all(one["code"] == 0 for one in results.read(gpu_round.NAME, tmp_path).values())
    gpu_round.flags.FLAGS(["gpu_round", "--seconds=20"])
    results.write(gpu_round.NAME, {}, tmp_path)
    ran.clear()
    gpu_round.main(None)
    assert ran == []


def test_synthetic_volumes_are_the_raw_data_set_of_the_step(tmp_path):
    wanted = f"--config.data.root={tmp_path / 'data' / synthetic_volumes.NAME}"
    assert [step.name for step in gpu_round.steps(tmp_path, tiny=True) if wanted in step.command] == [
        "volumes_end_to_end"
    ]
    root = synthetic_volumes.write(tmp_path, size=6, cases=2)
    assert synthetic_volumes.write(tmp_path, size=6, cases=2) == root
    assert layouts.find(root, None)


def test_the_table_has_a_row_a_recipe_and_a_line_a_training():
    one = {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": "Some CPU, 2 cores",
        "device": "Some GPU",
        "devices": 1,
        "versions": {"jax": "1.2"},
        "config": {"model": {"name": "nnunet", "dtype": "bfloat16"}, "size": [4, 5, 6], "batch_size": 2},
        "data": {"p50_ms": 3.0},
        "augmentation": {"p50_ms": 1.0, "of_step": 0.1},
        "step": {"p50_ms": 10.0, "share_of_measured_peak": 0.25},
        "end_to_end": {"p50_ms": 10.5, "of_step_only": 0.952},
        "feeding": {"together": {"p50_ms": 10.25, "steps": 8, "of_step_only": 0.975}},
        "inference": {"p50_ms": 4.0},
        "memory_gb": {"step_by_xla": 1.5},
        "compiling": {"compile_seconds": 12.3},
        "first_step": None,
    }
    trained = {"seconds": 300.0, "code": 1, "epochs": 4, "newest": [{"val_dice": 0.5}]}
    text = table.gpu_round({"volumes": {"code": 0, "benchmark": one}, "lgg_gpu": trained})
    assert "| nnunet, 4×5×6, batch 2, bfloat16 | 3.00 | 1.00 (10.0%) | 10.00 (25%) | 10.50 (95.2%) | 4.00 |" in text
    assert "the step alone, with batches of 8 steps a program 10.25 ms (97.5%)." in text
    assert text.endswith("lgg_gpu, trained for 300 s: 4 epochs, validation Dice 0.500.")
