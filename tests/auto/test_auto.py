import json
import shutil

import nibabel
import numpy as np
import pytest

from unet_jax.auto import auto as verb
from unet_jax.auto import best as best_file
from unet_jax.auto.auto import auto, show
from unet_jax.auto.predict import predict
from unet_jax.errors import InputError, StopRequestedError
from unet_jax.inference import components
from unet_jax.inference import predict as prediction
from unet_jax.runtime import lock

RUNS = [("wide", 0), ("wide", 1), ("2d", 0), ("2d", 1)]


def metrics(workdir, name, fold):
    return json.loads((workdir / name / f"fold{fold}/evaluation/test/metrics.json").read_text())


def stop_training(monkeypatch):
    began = []

    def train(recipe, folder):
        began.append((folder.parent.name, recipe.data.fold))
        assert recipe.plan.configuration == folder.parent.name
        assert (folder / "plan.json").exists()
        raise StopRequestedError("stopped")

    monkeypatch.setattr(verb, "train", train)
    return began


def test_candidates_score_as_their_runs_did(workdir):
    best = best_file.read(workdir)
    candidates = {each["name"]: each for each in best.results["candidates"]}
    assert list(candidates) == ["wide", "2d", "wide + 2d"]
    for name in ("wide", "2d"):
        each = [metrics(workdir, name, fold) for fold in (0, 1)]
        assert [one["cases"] for one in each] == [3, 3]
        for label in ("shell", "core"):
            dice = [one["classes"][label]["dice_per_patient"]["mean"] for one in each]
            assert candidates[name]["classes"][label] == pytest.approx(np.mean(dice))
        summary = json.loads((workdir / name / "summary.json").read_text())
        assert summary["foreground_mean"]["Dice"] == pytest.approx(candidates[name]["score"])
        assert [case["reference_file"] for case in summary["metric_per_case"]] == [f"ball_{n}" for n in range(6)]
    scores = {name: each["score"] for name, each in candidates.items()}
    assert " + ".join(best.configurations) == max(scores, key=scores.get)
    assert max(scores.values()) > 0.05
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] == pytest.approx(best.results["postprocessed"]["score"])
    assert best.folds == (0, 1)


def test_the_same_command_does_nothing_anew(config, copied, monkeypatch, capsys):
    began = stop_training(monkeypatch)
    monkeypatch.setattr(verb.pool, "pool", None)
    before = (copied / "best.json").read_bytes()
    auto(config, copied)
    assert began == []
    assert (copied / "best.json").read_bytes() == before
    out = capsys.readouterr().out
    assert "3d_lowres is left out: the plan has no such configuration." in out
    assert "→" in out


def test_a_choice_that_was_killed_resumes_case_by_case(config, copied, monkeypatch):
    before = (copied / "best.json").read_bytes()
    (copied / "best.json").unlink()
    kept = sorted((copied / "candidates").rglob("*.npz"))
    kept[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in kept[1:]}
    stop_training(monkeypatch)
    auto(config, copied)
    assert (copied / "best.json").read_bytes() == before
    assert kept[0].exists()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_was_struck_resumes_with_the_run_it_was_in(config, copied, monkeypatch):
    shutil.rmtree(copied / "2d" / "fold0")
    began = stop_training(monkeypatch)
    with pytest.raises(StopRequestedError):
        auto(config, copied)
    assert began == [("2d", 0)]


def test_a_run_of_another_process_is_passed_over(config, copied, monkeypatch, capsys):
    (copied / "best.json").unlink()
    for fold in (0, 1):
        shutil.rmtree(copied / "2d" / f"fold{fold}")
    with lock.lock_folder(copied / "2d" / "fold0"):
        # The other one is trained here.
        assert auto(config, copied) is None
    out = capsys.readouterr().out
    assert "2d, fold 0 is being trained by another process." in out
    assert "3 of 4 runs are done; once all are, the same command chooses:\n  2d, fold 0: not begun" in out
    assert not (copied / "best.json").exists()
    show(copied)
    assert "nothing is chosen yet\n  2d, fold 1: done\n  wide, fold 0: done" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"nothing is chosen yet.*such as --workdir=.*fold1"):
        predict(copied, copied, copied / "out")


def test_one_of_them_can_be_asked_for(config, tmp_path, monkeypatch):
    began = stop_training(monkeypatch)
    for wanted, first in (({"configuration": "2d"}, ("2d", 0)), ({"fold": 1}, ("wide", 1))):
        with pytest.raises(StopRequestedError):
            auto(config, tmp_path, **wanted)
        assert began.pop() == first
    with pytest.raises(InputError, match="--configuration is '3d'; it must be one of 2d, wide"):
        auto(config, tmp_path, configuration="3d")
    with pytest.raises(InputError, match="--fold is 2; it must be one of 0, 1"):
        auto(config, tmp_path, fold=2)


def test_runs_of_another_config_or_plan_are_refused(config, copied, monkeypatch):
    stop_training(monkeypatch)
    other = config.copy_and_resolve_references()
    other.optim.learning_rate = 0.5
    with pytest.raises(InputError, match=r"config\.optim\.learning_rate: the run has 0\.03, this command 0\.5"):
        auto(other, copied)
    plan = json.loads((copied / "plan.json").read_text())
    plan["configurations"]["2d"]["batch_size"] = 3
    (copied / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match=r"config\.train\.batch_size: the run has 2, this command 3"):
        auto(config, copied)


def test_what_cannot_be_asked_for(config, tmp_path):
    other = config.copy_and_resolve_references()
    other.eval.postprocess.largest_component = True
    with pytest.raises(InputError, match=r"config\.eval\.postprocess is found on the cross-validation"):
        auto(other, tmp_path)


def test_prediction_averages_the_folds_and_cleans(workdir, raw, tmp_path):
    best = best_file.read(workdir)
    predict(workdir, raw / "imagesTr", tmp_path / "out", probabilities=True)
    shell, core = (read(tmp_path / "out", f"probability_{number}") for number in (1, 2))
    likeliest = np.stack([1 - shell - core, shell, core]).argmax(0).astype(np.uint8)
    cleaned = np.stack([components.apply(mask, best.postprocessing) for mask in likeliest])
    assert (read(tmp_path / "out", "mask") == cleaned).mean() > 0.9999
    each = []
    for name in best.configurations:
        for fold in best.folds:
            folder = tmp_path / f"{name}{fold}"
            prediction.predict(workdir / name / f"fold{fold}", raw / "imagesTr", folder, probabilities=True)
            each.append([read(folder, f"probability_{number}") for number in (1, 2)])
    assert not np.array_equal(each[0], each[1])
    if len(best.configurations) == 1:
        # Of windows that do not overlap, the mean of logits is the geometric mean of odds.
        odds = [np.log(one[1] / one[0]) for one in each]
        np.testing.assert_allclose(np.log(core / shell), np.mean(odds, axis=0), atol=1e-3)


def read(folder, kind):
    return np.stack([nibabel.load(folder / f"ball_{n}_{kind}.nii.gz").get_fdata() for n in range(6)])
