import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from unet_jax.colours import colour_of
from unet_jax.report import pictures
from unet_jax.report.pictures import Example, slices_to_show, write_cases, write_curves, write_fold_curves


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, in order; saving itself goes on."""
    figures, save = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def _masks(depth, *slices):
    """Masks with a square tumour in these slices."""
    mask = np.zeros((depth, 16, 16), np.uint8)
    mask[list(slices), 4:9, 5:11] = 1
    return mask


def _example(truth, predicted, title="worst: a, Dice 0.100"):
    image = np.random.default_rng(0).integers(0, 256, truth.shape, np.uint8)
    return Example(title, image, truth, predicted)


def _shown(figure):
    """For each panel with a slice: its title and the colours of its outlines."""
    return [
        (panel.get_title(), [str(lines.get_edgecolor().tolist()) for lines in panel.collections])
        for panel in figure.axes
        if panel.images
    ]


def _size(path):
    return cv2.imread(str(path)).shape[:2]


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        (_masks(20, *range(5, 16)), _masks(20), [5, 7, 9, 11, 13, 15]),  # every other of eleven
        (_masks(20, 3, 4), _masks(20, 17), [3, 4, 17]),  # fewer than panels: all, of either mask
        (_masks(11), _masks(11), [0, 2, 4, 6, 8, 10]),  # no tumour: spread over the whole case
        (_masks(9, 4), _masks(9, 4), [4]),
        (_masks(1), _masks(1), [0]),
        (_masks(6, *range(6)), _masks(6), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_slices_are_spread_over_those_with_tumour(truth, predicted, expected):
    assert slices_to_show(truth, predicted) == expected


def test_slices_to_show_are_distinct_and_keep_the_ends():
    for count in range(1, 40):
        shown = slices_to_show(_masks(60, *range(10, 10 + count)), _masks(60))
        assert len(shown) == min(count, pictures.SLICES_A_CASE)
        assert shown == sorted(set(shown))
        assert (shown[0], shown[-1]) == (10, 9 + count)


def test_a_sheet_has_a_row_a_case_and_a_panel_a_slice(tmp_path, drawn):
    examples = [
        _example(_masks(20, *range(5, 16)), _masks(20, *range(5, 16)), "best: a, Dice 1.000"),
        _example(_masks(3, 1), _masks(3, 1, 2), "worst: b, Dice 0.667"),
    ]
    write_cases(tmp_path / "new" / "cases.png", examples, "test, by patient")
    *rows, foot = drawn[0].subfigs
    assert [row.get_suptitle() for row in rows] == [example.title for example in examples]
    assert [len(row.axes) for row in rows] == [pictures.SLICES_A_CASE] * 2
    numbers = [[title for title, _ in _shown(row)] for row in rows]
    assert numbers == [[f"slice {n}" for n in (6, 8, 10, 12, 14, 16)], ["slice 2", "slice 3"]]
    assert [text.get_text() for text in foot.texts] == ["test, by patient"]
    height, width = _size(tmp_path / "new" / "cases.png")
    assert (height, width) == (round((2.3 * 2 + 0.4) * 110), 12 * 110)


def test_both_outlines_are_drawn_where_there_is_tumour(tmp_path, drawn):
    write_cases(tmp_path / "cases.png", [_example(_masks(4, 1, 2), _masks(4, 2, 3))], "")
    outlines = [len(colours) for _, colours in _shown(drawn[0])]
    assert outlines == [1, 2, 1]
    [true], both, [predicted] = (colours for _, colours in _shown(drawn[0]))
    assert both == [true, predicted]
    assert true != predicted


def test_each_class_is_outlined_in_its_colour_and_named(tmp_path, drawn):
    """True outlines are solid and predicted ones dashed; a name is text, whatever stands in it."""
    truth, predicted = _masks(3, 0, 1), _masks(3, 1, 2)
    truth[:2, 4:6] *= 2
    write_cases(tmp_path / "cases.png", [_example(truth, predicted)], "", ("edema", r"$\core$"))
    first, second, third = (
        [(tuple(lines.get_edgecolor()[0, :3]), lines.get_linestyle()[0][1] is None) for lines in panel.collections]
        for panel in drawn[0].axes
        if panel.images
    )
    one, two = (to_rgb(colour_of(number)) for number in (1, 2))
    assert first == [(one, True), (two, True)]
    assert second == [(one, True), (one, False), (two, True)]
    assert third == [(one, False)]
    [legend] = drawn[0].subfigs[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == ["true", "predicted", "edema", r"$\core$"]


def test_cases_without_tumour_or_with_nothing_else_are_drawn(tmp_path, drawn, recwarn):
    full = np.ones((2, 16, 16), np.uint8)
    empty = np.zeros((2, 16, 16), np.uint8)
    black = Example("black", empty.astype(np.float32), empty, empty)
    write_cases(tmp_path / "cases.png", [_example(empty, empty), _example(full, full), black], "")
    assert [len(_shown(row)) for row in drawn[0].subfigs[:-1]] == [2, 2, 2]
    assert [str(warning.message) for warning in recwarn] == []


def _epochs(*dices):
    return [
        {"epoch": number, "train_loss": 1 / number, "train_dice": dice / 2, "val_dice": dice}
        for number, dice in enumerate(dices, 1)
    ]


def test_curves_show_every_epoch_and_mark_the_first_best(tmp_path, drawn):
    write_curves(tmp_path / "new" / "curves.png", _epochs(0.2, 0.8, 0.5, 0.8))
    loss, dice = drawn[0].axes
    [training] = loss.lines
    np.testing.assert_allclose(training.get_xydata(), [(1, 1), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)])
    train, validation, best = dice.lines
    np.testing.assert_allclose(train.get_ydata(), [0.1, 0.4, 0.25, 0.4])
    np.testing.assert_allclose(validation.get_ydata(), [0.2, 0.8, 0.5, 0.8])
    assert list(best.get_xdata()) == [2, 2]
    assert best.get_label() == "best: 0.800"
    height, width = _size(tmp_path / "new" / "curves.png")
    assert (height, width) == (round(3.4 * 110), 9 * 110)


def test_curves_of_folds_have_a_line_a_fold_and_a_label_a_kind(tmp_path, drawn):
    write_fold_curves(tmp_path / "curves.png", [_epochs(0.2, 0.8), _epochs(0.4, 0.6, 0.7)])
    loss, dice = drawn[0].axes
    assert [line.get_xdata().tolist() for line in loss.lines] == [[1, 2], [1, 2, 3]]
    assert [line.get_ydata().tolist() for line in dice.lines[1::2]] == [[0.2, 0.8], [0.4, 0.6, 0.7]]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training"]
    assert len(dice.get_legend().get_texts()) == 2


def test_one_epoch_makes_a_curve_too(tmp_path, recwarn):
    write_curves(tmp_path / "curves.png", _epochs(0.0))
    assert _size(tmp_path / "curves.png") == (374, 990)
    assert [str(warning.message) for warning in recwarn] == []
