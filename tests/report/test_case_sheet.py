import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from unet_jax.colours import colour_of
from unet_jax.report.case_sheet import SLICES_A_CASE, of_case, slices_to_show, write


def _masks(depth, *slices):
    """Masks with a square tumour in these slices."""
    mask = np.zeros((depth, 16, 16), np.uint8)
    mask[list(slices), 4:9, 5:11] = 1
    return mask


def _example(truth, predicted, title="worst: a, Dice 0.100"):
    image = np.random.default_rng(0).integers(0, 256, truth.shape, np.uint8)
    return of_case(title, image, truth, predicted)


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
        assert len(shown) == min(count, SLICES_A_CASE)
        assert shown == sorted(set(shown))
        assert (shown[0], shown[-1]) == (10, 9 + count)


def test_a_sheet_has_a_row_a_case_and_a_panel_a_slice(tmp_path, drawn):
    examples = [
        _example(_masks(20, *range(5, 16)), _masks(20, *range(5, 16)), "best: a, Dice 1.000"),
        _example(_masks(3, 1), _masks(3, 1, 2), "worst: b, Dice 0.667"),
    ]
    write(tmp_path / "new" / "cases.png", examples, "test, by patient")
    *rows, foot = drawn[0].subfigs
    assert [row.get_suptitle() for row in rows] == [example.title for example in examples]
    assert [len(row.axes) for row in rows] == [SLICES_A_CASE] * 2
    numbers = [[title for title, _ in _shown(row)] for row in rows]
    assert numbers == [[f"slice {n}" for n in (6, 8, 10, 12, 14, 16)], ["slice 2", "slice 3"]]
    assert [text.get_text() for text in foot.texts] == ["test, by patient"]
    height, width = _size(tmp_path / "new" / "cases.png")
    assert (height, width) == (round((2.3 * 2 + 0.4) * 110), 12 * 110)


def test_single_pictures_lie_side_by_side(tmp_path, drawn):
    examples = [_example(_masks(1, 0), _masks(1, 0), f"picture {number}") for number in range(4)]
    write(tmp_path / "cases.png", examples, "")
    *rows, _ = drawn[0].subfigs
    assert [[title for title, _ in _shown(row)] for row in rows] == [
        ["picture 0", "picture 1", "picture 2"],
        ["picture 3"],
    ]
    assert _size(tmp_path / "cases.png") == (round((4 * 2 + 0.4) * 110), 12 * 110)


def test_both_outlines_are_drawn_where_there_is_tumour(tmp_path, drawn):
    write(tmp_path / "cases.png", [_example(_masks(4, 1, 2), _masks(4, 2, 3))], "")
    outlines = [len(colours) for _, colours in _shown(drawn[0])]
    assert outlines == [1, 2, 1]
    [true], both, [predicted] = (colours for _, colours in _shown(drawn[0]))
    assert both == [true, predicted]
    assert true != predicted


def test_each_class_is_outlined_in_its_colour_and_named(tmp_path, drawn):
    """True outlines are solid and predicted ones dashed; a name is text, whatever stands in it."""
    truth, predicted = _masks(3, 0, 1), _masks(3, 1, 2)
    truth[:2, 4:6] *= 2
    write(tmp_path / "cases.png", [_example(truth, predicted)], "", ("edema", r"$\core$"))
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
    black = of_case("black", empty.astype(np.float32), empty, empty)
    write(tmp_path / "cases.png", [_example(empty, empty), _example(full, full), black], "")
    assert [len(_shown(row)) for row in drawn[0].subfigs[:-1]] == [2, 2, 2]
    assert [str(warning.message) for warning in recwarn] == []
