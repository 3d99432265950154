import numpy as np
import pytest
import scored_cases
from scipy import ndimage

from unet_jax.data.case import Case
from unet_jax.metrics.cases import score_cases
from unet_jax.metrics.centre_lines import cldice, skeleton
from unet_jax.metrics.summary import summarise
from unet_jax.report import cases as report_cases
from unet_jax.report import scores, sections


def picture(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows], np.uint8)


BAR = picture("..........", ".########.", ".########.", ".########.", "..........")
LINE = picture("..........", "..........", ".########.", "..........", "..........")
HALF = picture("..........", "..........", ".####.....", "..........", "..........")
BESIDE = picture(".########.", "..........", "..........", "..........", "..........")
NOTHING = np.zeros_like(BAR)


def test_the_skeleton_of_a_bar_lies_in_its_middle_row():
    found = skeleton(BAR)
    assert not found[LINE == 0].any()
    # It is as long as the bar but for the half width that each end may lose.
    assert found.sum() >= 6


def test_lines_a_pixel_wide_are_their_own_skeletons():
    corner = picture("#....", "#....", "#....", "#####")
    slanted = np.eye(6, dtype=np.uint8)
    for line in (LINE, corner, slanted, slanted[::-1], picture("#")):
        np.testing.assert_array_equal(skeleton(skeleton(line)), skeleton(line))
        assert ndimage.label(skeleton(line), np.ones((3, 3)))[1] == 1
    for line in (LINE, slanted, slanted[::-1], picture("#")):
        np.testing.assert_array_equal(skeleton(line), line)


def test_a_skeleton_has_the_parts_and_the_holes_of_its_mask():
    """Parts that touch at a corner are one; holes that do are two."""
    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7, 0.9):
        for _ in range(8):
            mask = (rng.random((17, 23)) < share).astype(np.uint8)
            line = skeleton(mask)
            assert not line[mask == 0].any()
            assert ndimage.label(line, np.ones((3, 3)))[1] == ndimage.label(mask, np.ones((3, 3)))[1]
            assert ndimage.label(np.pad(line, 1) == 0)[1] == ndimage.label(np.pad(mask, 1) == 0)[1]
            np.testing.assert_array_equal(skeleton(line), line)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (BAR, BAR, 1.0),
        # Widths do not count.
        (BAR, LINE, 1.0),
        (LINE, BAR, 1.0),
        # All of it is right, half of it is there.
        (HALF, LINE, 2 * 1 * 0.5 / 1.5),
        (LINE, HALF, 2 * 0.5 * 1 / 1.5),
        # All of it is there, and as much beside it.
        (LINE | BESIDE, LINE, 2 * 0.5 * 1 / 1.5),
        (BESIDE, LINE, 0.0),
        (NOTHING, LINE, 0.0),
        (LINE, NOTHING, 0.0),
        (NOTHING, NOTHING, None),
    ],
)
def test_cldice_by_its_closed_form(predicted, truth, expected):
    assert cldice(predicted, truth) == expected


def score(masks, truths, classes=(), cldice=True):
    cases = [
        Case(f"{number}", f"patient {number}", np.zeros((*truth.shape, 1), np.uint8), truth, None)
        for number, truth in enumerate(truths)
    ]
    whole = [(number, np.arange(len(mask), dtype=np.int32), mask) for number, mask in enumerate(masks)]
    options = {"tolerance": 1.0, "stages": scored_cases.stages(), "classes": classes, "cldice": cldice}
    return score_cases(cases, whole, **options)["as_predicted"]


def test_pictures_have_it_where_it_is_asked_for_and_volumes_do_not():
    volume = np.stack([BAR, BAR])
    found = score([HALF[None], NOTHING[None], volume], [LINE[None], NOTHING[None], volume])
    assert {row["case"]: row["cldice"] for row in found.rows} == {"0": 2 / 3, "1": None, "2": None}
    summary = summarise(found.rows, found.counts)
    assert (summary["cldice_per_patient"]["mean"], summary["cldice_per_patient"]["patients"]) == (2 / 3, 1)
    header = scored_cases.SCORED_HOW
    assert "clDice per patient" in scores.table(header | summary)
    [tile] = [each for each in sections._tiles(header | summary) if "clDice" in each[0]]
    assert tile[1] == "0.667"
    assert ("cldice", "clDice", ".3f") in report_cases.columns_of(found.rows)

    without = score([HALF[None]], [LINE[None]], cldice=False)
    assert "cldice" not in without.rows[0]
    assert "cldice_per_patient" not in summarise(without.rows, without.counts)


def test_of_several_classes_it_is_the_mean_of_those_where_it_is_defined():
    predicted, truth = HALF + 2 * BESIDE, LINE + 2 * BESIDE
    found = score([predicted[None], HALF[None]], [truth[None], LINE[None]], classes=("vessel", "fibre"))
    by_case = {row["case"]: row for row in found.rows}
    assert by_case["0"]["cldice"] == (2 / 3 + 1) / 2
    assert by_case["1"]["cldice"] == 2 / 3
    assert by_case["1"]["classes"]["fibre"]["cldice"] is None
