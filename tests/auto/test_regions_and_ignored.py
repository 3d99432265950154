"""The whole command where classes overlap, where nobody labelled some voxels, and with a cascade of regions."""

import json

import nibabel
import nnunet_raw
import numpy as np
import pytest

import unet_jax
from configs import nnunet
from unet_jax.auto import best as best_file
from unet_jax.auto.auto import auto
from unet_jax.auto.predict import predict
from unet_jax.data.load import load
from unet_jax.plan import plan_file
from unet_jax.run.resolve import resolve

REGIONS = {"background": 0, "ball": [1, 2], "core": 2}
IGNORED = nnunet_raw.LABELS | {"ignore": 3}
SETTINGS = {
    "data.folds": 2,
    "data.val_fraction": 0.3,
    "train.epochs": 1,
    "train.steps_per_epoch": 8,
    "train.tensorboard": False,
    "optim.learning_rate": 0.05,
    "eval.tta": False,
}


def dice(found, there):
    return 2 * (found & there).sum() / (found.sum() + there.sum()) if found.any() or there.any() else None


@pytest.mark.longest
@pytest.mark.parametrize(
    ("labels", "order", "configurations"),
    [
        (REGIONS, (1, 2), ("2d", "3d_cascade_fullres")),
        (REGIONS | {"ignore": 3}, (1, 2), ("2d",)),
        (IGNORED, None, ("2d", "3d_fullres")),
    ],
    ids=["regions_cascade", "regions_ignored", "labels_ignored"],
)
def test_plan_train_choose_predict(labels, order, configurations, tmp_path):
    raw = nnunet_raw.write(tmp_path / "Dataset008_Parts", labels=labels, order=order)
    config = nnunet.get_config()
    config.data.root, config.data.cache = str(raw), str(tmp_path / "cache")
    config.plan.configuration, config.plan.configurations = "2d", None
    plans = nnunet_raw.tiny_plan(resolve(config, [])[0], memory_gb=0.008)
    plan_file.write_plans(tmp_path / "plan.json", plans)
    config.plan.configuration = None
    settings = SETTINGS | {"plan.configurations": configurations, "plan.file": str(tmp_path / "plan.json")}
    config.update_from_flattened_dict(settings)
    config, workdir = resolve(config, settings)[0], tmp_path / "runs"
    auto(config, workdir)

    names = {name: value for name, value in labels.items() if name not in ("background", "ignore")}
    best = best_file.read(workdir)
    candidates = {each["name"]: each for each in best.results["candidates"]}
    assert set(configurations) <= candidates.keys()
    truths = [np.where(case.mask == 255, 3, case.mask) for case in load(config).cases]
    kept = sorted((workdir / "candidates").rglob("*.npz"), key=lambda path: path.name)
    for number, (name, of_candidate) in enumerate(candidates.items()):
        masks = [np.load(path)[str(number)] for path in kept]
        for of_class, values in names.items():
            dices = [
                dice(np.isin(mask, values) & (truth != 3), np.isin(truth, values))
                for mask, truth in zip(masks, truths, strict=True)
            ]
            assert of_candidate["classes"][of_class] == pytest.approx(np.mean(dices)), (name, of_class)
    summary = json.loads((workdir / "summary.json").read_text())
    keys = {str(tuple(np.atleast_1d(value).tolist())) if order else str(value) for value in names.values()}
    assert summary["mean"].keys() == keys

    rows = predict(workdir, raw / "imagesTr", tmp_path / "masks", probabilities=True)
    assert len(rows) == len(truths) * len(names)
    segment = unet_jax.load(workdir)
    assert segment.classes == tuple(names)
    found = np.asarray(nibabel.load(tmp_path / "masks" / "ball_0_mask.nii.gz").dataobj)
    assert set(np.unique(found)) <= {0, 1, 2}
    image = np.asarray(nibabel.load(raw / "imagesTr" / "ball_0_0000.nii.gz").dataobj, np.float32)
    np.testing.assert_array_equal(segment(image.T[..., None], (2.0, 2.0, 2.0)), found.T)
