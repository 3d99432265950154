from pathlib import Path

import cv2
import numpy as np
import pytest

from unet_jax.crossval.predict import predict
from unet_jax.data.load import load
from unet_jax.errors import InputError
from unet_jax.files import read_json
from unet_jax.inference import postprocess
from unet_jax.inference.predict import predict as predict_with_one
from unet_jax.run.config import read_config


def _probability(folder: Path) -> np.ndarray:
    [path] = folder.glob("*_probability.*")
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(float) / 65535


def test_probabilities_are_the_mean_of_the_folds_and_masks_follow_what_all_chose(chosen, tmp_path, capsys):
    image = load(read_config(chosen / "fold0")).cases[0].image
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "slice.png"), np.asarray(image[2])[..., ::-1])
    for number in (0, 1):
        predict_with_one(chosen / f"fold{number}", tmp_path / "in", tmp_path / str(number), probabilities=True)
    predict(chosen, tmp_path / "in", tmp_path / "together", probabilities=True)
    assert "the mean of 2 of 2 folds" in capsys.readouterr().out
    mean = (_probability(tmp_path / "0") + _probability(tmp_path / "1")) / 2
    found = _probability(tmp_path / "together")
    np.testing.assert_allclose(found, mean, atol=2 / 65535)
    values = read_json(chosen / "crossval.json")["chosen"]
    mask = (found >= values["threshold"])[None].astype(np.uint8)
    kept = postprocess.remove_small(mask, values["minimum_voxels"])[0]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "together" / "slice.png"), cv2.IMREAD_UNCHANGED) > 0, kept)


def test_a_folder_without_scored_folds_is_refused(tmp_path):
    (tmp_path / "fold0").mkdir()
    with pytest.raises(InputError, match="holds no fold that is trained and scored"):
        predict(tmp_path, tmp_path, tmp_path / "out")
