import numpy as np
import pytest

from unet_jax.crossval import folds
from unet_jax.crossval import pictures as fold_pictures
from unet_jax.data.case import Case
from unet_jax.data.load import DataSet
from unet_jax.inference.network import Probability


def row(case, dice, fold=0):
    return {"case": case, "dice": dice, "fold": fold}


def test_the_best_the_median_and_the_five_worst_are_chosen():
    rows = [row(f"c{number}", number / 10) for number in range(10)]
    titles = [title for title, _ in fold_pictures.chosen(rows)]
    assert titles[:3] == [
        "best: c9, Dice 0.900, fold 0",
        "median: c5, Dice 0.500, fold 0",
        "worst: c0, Dice 0.000, fold 0",
    ]
    assert titles[3:] == [f"{n + 1}. worst: c{n}, Dice 0.{n}00, fold 0" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_case_is_shown_twice(count):
    shown = [found["case"] for _, found in fold_pictures.chosen([row(f"c{n}", n / 10) for n in range(count)])]
    assert sorted(shown) == [f"c{n}" for n in range(count)]


def test_each_case_is_segmented_by_the_network_of_its_fold(tmp_path, settings, configure, monkeypatch):
    """Networks that call a pixel tumour from a brightness on that differs from fold to fold."""
    config = configure(settings)
    scan = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    cases = [Case(name, name, scan, np.zeros((2, 4, 4), np.uint8)) for name in "abc"]
    loaded = []

    def load_network(folder, config, mesh) -> tuple[Probability, None]:
        loaded.append((folder.name, config.eval.tta))
        limit = 10 if folder.name == "fold0" else 40
        return lambda image, sizes=None: (image[..., 0] >= limit).astype(np.float32), None

    monkeypatch.setattr(fold_pictures, "load_network", load_network)
    monkeypatch.setattr(fold_pictures.load, "load", lambda config: DataSet(cases, {}, "", {}))
    monkeypatch.setattr(fold_pictures, "read_config", lambda folder, **options: config)
    sheets = []
    monkeypatch.setattr(fold_pictures.case_sheet, "write", lambda path, examples, caption: sheets.append(examples))
    scored = {"tta": False, "tiles": False}
    both = [folds.Fold(number, tmp_path / f"fold{number}", {}, scored, [], []) for number in (0, 1)]
    fold_pictures.write(tmp_path / "cases.png", both, [row("a", 0.1, 1), row("b", 0.2, 0), row("c", 0.3, 1)])
    assert loaded == [("fold0", False), ("fold1", False)]
    [examples] = sheets
    assert [example.title[:8] for example in examples] == ["best: c,", "median: ", "worst: a"]
    for example, limit in zip(examples, (40, 10, 40), strict=True):
        np.testing.assert_array_equal(example.predicted, scan[..., 0] >= limit)
