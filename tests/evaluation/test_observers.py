"""Masks of two observers, whose Dice with each other and with a prediction is counted by hand."""

import dataclasses

import cv2
import numpy as np
import pytest
import scored_cases

from unet_jax.data import load
from unet_jax.errors import InputError
from unet_jax.evaluation import observers
from unet_jax.evaluation.evaluate import evaluate
from unet_jax.metrics.cases import score_cases
from unet_jax.metrics.summary import summarise
from unet_jax.report import packed_masks, scores, sections
from unet_jax.training.train import train

SIZE = 16
# Half of the picture each; they share a quarter of it.
LEFT, TOP = np.zeros((2, SIZE, SIZE), np.uint8)
LEFT[:, : SIZE // 2] = TOP[: SIZE // 2] = 1
NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")


@pytest.fixture(scope="module")
def config(configure, settings, tmp_path_factory):
    """Pictures of which the first observer marked the left and the second the top; the last has no second one."""
    root = tmp_path_factory.mktemp("observers")
    for folder in ("images", "first", "second"):
        (root / folder).mkdir()
    for number, name in enumerate(NAMES):
        image = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE), np.uint8)
        cv2.imwrite(str(root / "images" / f"{name}.png"), image)
        cv2.imwrite(str(root / "first" / f"{name}.png"), LEFT * np.uint8(255))
        if name != NAMES[-1]:
            cv2.imwrite(str(root / "second" / f"{name}.png"), TOP * np.uint8(255))
    return configure(
        settings
        | {
            "data.source": "patterns",
            "data.root": str(root),
            "data.images": "images/{case}.png",
            "data.masks": "first/{case}.png",
            "data.cache": str(root / "cache"),
            "data.val_fraction": 0.25,
            "data.test_fraction": 0.25,
            "train.epochs": 1,
            "eval.second_masks": "second/{case}.png",
        }
    )


@pytest.fixture(scope="module")
def data(config):
    return load.load(config)


def compared(config, data, mask):
    """The scores of the mask, predicted for every case."""
    every = [(number, np.arange(1, dtype=np.int32), mask[None]) for number in range(len(data.cases))]
    options = {"tolerance": 1.0, "stages": scored_cases.stages()}
    found = score_cases(data.cases, every, **options)["as_predicted"]
    masks = {number: packed_masks.pack(slices, mask) for number, slices, mask in every}
    return dataclasses.replace(found, rows=observers.compared(found.rows, data, masks, config))


@pytest.mark.parametrize(("mask", "with_second"), [(LEFT, 0.5), (TOP, 1.0), (LEFT | TOP, 4 / 5), (LEFT & TOP, 2 / 3)])
def test_a_prediction_against_the_second_and_the_second_against_the_first(config, data, mask, with_second):
    found = compared(config, data, mask)
    by_case = {row["case"]: row for row in found.rows}
    assert {name: row["dice_with_second_observer"] for name, row in by_case.items()} == {
        name: None if name == NAMES[-1] else pytest.approx(with_second) for name in NAMES
    }
    assert {row["dice_between_observers"] for name, row in by_case.items() if name != NAMES[-1]} == {0.5}
    summary = scored_cases.SCORED_HOW | summarise(found.rows, found.counts)
    assert summary["dice_between_observers_per_patient"]["mean"] == 0.5
    assert summary["dice_with_second_observer_per_patient"]["patients"] == len(NAMES) - 1
    [line] = [line for line in scores.table(summary).splitlines() if "second observer" in line]
    assert f"{with_second:.3f} mean" in line
    assert [tile[1] for tile in sections._tiles(summary)[-2:]] == [f"{with_second:.3f}", "0.500"]


def test_classes_are_compared_one_by_one(config, data):
    """Left and right by the first observer, above and below by the second: each shares a half of its own."""
    first, second = LEFT + 1, TOP + 1
    rows = [{"case": "a", "classes": {"one": {}, "two": {}}}]
    several = dataclasses.replace(
        data,
        cases=[dataclasses.replace(data.cases[0], mask=first[None])],
        classes={"one": (1,), "two": (2,)},
    )
    masks = {0: packed_masks.pack(np.arange(1, dtype=np.int32), second[None])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observers, "second_observer", lambda config: lambda case: second[None])
        [row] = observers.compared(rows, several, masks, config)
    assert row["dice_with_second_observer"] == 1
    assert row["dice_between_observers"] == 0.5
    assert row["classes"]["two"] == {"dice_with_second_observer": 1, "dice_between_observers": 0.5}


def test_a_run_says_it_and_so_does_an_evaluation_of_other_data(config, tmp_path):
    metrics = train(config, tmp_path / "run")
    assert metrics["dice_between_observers_per_patient"]["mean"] == 0.5
    report = (tmp_path / "run" / "evaluation" / "test" / "report.html").read_text()
    assert "Dice of the second observer with the first" in report
    # Where nobody drew a second time, there is a line instead.
    others = tmp_path / "others"
    for name, pixels in (("images/x.png", TOP * np.uint8(200)), ("first/x.png", LEFT * np.uint8(255))):
        (others / name).parent.mkdir(parents=True)
        cv2.imwrite(str(others / name), pixels)
    alone = evaluate(tmp_path / "run", side="all", data=others)
    assert "dice_between_observers_per_patient" not in alone


def test_what_is_wrong_with_the_second_masks_is_told_before_training(config, tmp_path):
    for changes, words in (
        ({"second_masks": "third/{case}.png"}, "no case of .* has such a file"),
        ({"second_masks": "second/{name}.png"}, "config.eval.second_masks=.*name"),
    ):
        wrong = config.copy_and_resolve_references()
        wrong.eval.update(changes)
        with pytest.raises(InputError, match=words):
            train(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    without = config.copy_and_resolve_references()
    with without.unlocked():
        without.data.images = without.data.masks = None
    with pytest.raises(InputError, match=r"set config.data.images and config.data.masks"):
        observers.second_observer(without)


def test_another_size_is_named(config, data):
    second = observers.second_observer(config)
    image, mask = np.zeros((1, 4, 4, 1), np.uint8), np.zeros((1, 4, 4), np.uint8)
    smaller = dataclasses.replace(data.cases[0], image=image, mask=mask)
    with pytest.raises(InputError, match=r"of a it has 1×16×16 and config.data.masks 1×4×4 voxels"):
        second(smaller)
