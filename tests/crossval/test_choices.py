import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.crossval import choices, folds
from unet_jax.crossval.crossval import crossval
from unet_jax.data import labels
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.evaluation import evaluate as evaluation
from unet_jax.files import read_json
from unet_jax.inference import ensemble, postprocess
from unet_jax.inference.predict import predict
from unet_jax.metrics import overlap
from unet_jax.run import pack_file
from unet_jax.run.config import read_config
from unet_jax.share.pack import pack

THRESHOLDS, MINIMA = (0.2, 0.5, 0.8), (0, 3, 20)


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_mask_made_and_cleaned_for_each_candidate(seed):
    rng = np.random.default_rng(seed)
    probability = rng.random((3, 20, 20), np.float32) ** 2
    truth = (rng.random(probability.shape) < 0.2).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = labels.IGNORED
    found = choices.count(probability, truth, THRESHOLDS, MINIMA)
    for row, threshold in enumerate(THRESHOLDS):
        for column, minimum in enumerate(MINIMA):
            settings = {"minimum_voxels": minimum, "largest_component": False}
            mask = postprocess.apply((probability >= threshold).astype(np.uint8), settings)
            expected = overlap.count(labels.where_labelled(mask, truth), labels.without_ignored(truth)).sum(0)
            np.testing.assert_array_equal(found[row, column], expected)


def _twelve_voxels_and_a_false_part():
    """Of twelve marked voxels nine have .7 and three .3; two voxels far off have .9."""
    probability = np.zeros((1, 10, 10), np.float32)
    probability[0, :3, :3], probability[0, :3, 3], probability[0, 8, 8:] = 0.7, 0.3, 0.9
    truth = np.zeros(probability.shape, np.uint8)
    truth[0, :3, :4] = 1
    return choices.count(probability, truth, THRESHOLDS, MINIMA)


def test_a_small_false_part_is_worth_dropping_and_a_low_threshold_worth_taking():
    found = _twelve_voxels_and_a_false_part()
    assert found.tolist() == [
        [[12, 2, 0], [12, 0, 0], [0, 0, 12]],
        [[9, 2, 3], [9, 0, 3], [0, 0, 12]],
        [[0, 2, 12], [0, 0, 12], [0, 0, 12]],
    ]
    values = {"threshold": THRESHOLDS, "minimum_voxels": MINIMA}
    assert choices._best([{"p": found}], values) == {
        "threshold": 0.2,
        "minimum_voxels": 3,
        "dice": 1.0,
        "patients": 1,
    }


@pytest.mark.parametrize(("smallest", "minimum"), [(12, 3), (11, 0), (0, 3)])
def test_no_minimum_is_over_a_quarter_of_a_patients_tumour(smallest, minimum):
    # A patient whose tumour is found to the voxel, whatever is chosen; without any, it has no say.
    other = np.broadcast_to(np.array([smallest, 0, 0]), (3, 3, 3))
    values = {"threshold": THRESHOLDS, "minimum_voxels": MINIMA}
    assert choices._best([{"p": _twelve_voxels_and_a_false_part()}, {"q": other}], values)["minimum_voxels"] == minimum


def test_a_minimum_that_is_not_to_be_chosen_stays_however_large():
    values = {"threshold": THRESHOLDS, "minimum_voxels": (20,)}
    counts = _twelve_voxels_and_a_false_part()[:, 2:]
    assert choices._best([{"p": counts}], values)["minimum_voxels"] == 20


def test_of_equal_candidates_the_one_nearest_a_half_that_drops_least_is_chosen():
    nothing = np.zeros((3, 3, 3), np.int64)
    values = {"threshold": THRESHOLDS, "minimum_voxels": MINIMA}
    chosen = choices._best([{"p": nothing}], values)
    assert (chosen["threshold"], chosen["minimum_voxels"]) == (0.5, 0)


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({"eval.choose": ("treshold",)}, "names 'treshold'; it may name threshold and minimum_voxels"),
        ({"eval.choose": ("threshold",), "eval.choose_threshold": True}, "leave one of them"),
    ],
)
def test_what_cannot_be_chosen_is_refused(settings, configure, tmp_path, wanted, line):
    with pytest.raises(InputError, match=line):
        crossval(configure(settings | wanted), tmp_path / "runs")


def test_each_fold_is_scored_with_what_the_other_chose(chosen):
    results = json.loads((chosen / "crossval.json").read_text())
    for number, other in ((0, 1), (1, 0)):
        its = json.loads((chosen / f"fold{number}" / "chosen.json").read_text())
        counts = json.loads((chosen / f"fold{other}" / "evaluation" / "candidates.json").read_text())["counts"]
        table = np.array([list(counts.values())])[0].astype(float)
        dice = 2 * table[..., 0] / (2 * table[..., 0] + table[..., 1] + table[..., 2])
        assert its["dice"] == pytest.approx(dice.mean(0).max())
        scored = results["per_fold"][number]
        assert (scored["threshold"], scored["minimum_voxels"]) == (its["threshold"], its["minimum_voxels"])
        config = read_config(chosen / f"fold{number}")
        assert config.eval.threshold == its["threshold"]
        assert config.eval.postprocess.minimum_voxels == its["minimum_voxels"]


def test_the_scores_are_those_of_the_table_at_the_chosen_place(chosen):
    for fold in folds.read(chosen):
        table = json.loads((fold.folder / "evaluation" / "candidates.json").read_text())
        place = tuple(table["made_of"][name].index(fold.metrics[name]) for name in choices.CANDIDATES)
        for row in fold.rows:
            counts = np.array(table["counts"][row["patient"]])[place]
            assert row["dice"] == pytest.approx(overlap.dice(counts))


def test_what_is_chosen_already_is_not_computed_again(chosen, monkeypatch):
    for name in ("evaluate", "_count_fold"):
        monkeypatch.setattr(choices, name, lambda *arguments: pytest.fail("computed again"))
    before = json.loads((chosen / "crossval.json").read_text())
    assert crossval(None, chosen)["chosen"] == before["chosen"]


def test_a_damaged_choice_is_refused_by_name(chosen, tmp_path):
    shutil.copytree(chosen / "fold0", tmp_path / "fold0")
    (tmp_path / "fold0" / "chosen.json").write_text('{"threshold": 2}')
    with pytest.raises(InputError, match=r"chosen\.json"):
        evaluation.evaluate(tmp_path / "fold0")


def _probability(folder: Path) -> np.ndarray:
    [path] = folder.glob("*_probability.*")
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(float) / 65535


def test_probabilities_are_the_mean_of_the_folds_and_masks_follow_what_all_chose(chosen, tmp_path):
    image = load(read_config(chosen / "fold0")).cases[0].image
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "slice.png"), np.asarray(image[2])[..., ::-1])
    for number in (0, 1):
        predict(chosen / f"fold{number}", tmp_path / "in", tmp_path / str(number), probabilities=True)
    predict(chosen, tmp_path / "in", tmp_path / "together", probabilities=True)
    mean = (_probability(tmp_path / "0") + _probability(tmp_path / "1")) / 2
    found = _probability(tmp_path / "together")
    np.testing.assert_allclose(found, mean, atol=2 / 65535)
    values = read_json(chosen / "crossval.json")["chosen"]
    mask = (found >= values["threshold"])[None].astype(np.uint8)
    kept = postprocess.remove_small(mask, values["minimum_voxels"])[0]
    written = cv2.imread(str(tmp_path / "together" / "slice_mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written > 0, kept)


def test_a_pack_of_the_folds_predicts_with_what_all_chose(chosen, tmp_path):
    pack(chosen, tmp_path / "model.zip")
    together = json.loads((chosen / "chosen.json").read_text())
    with pack_file.opened(tmp_path / "model.zip") as folder:
        config = ensemble.find(folder).config
    assert config.eval.threshold == together["threshold"]
    assert config.eval.postprocess.minimum_voxels == together["minimum_voxels"]
