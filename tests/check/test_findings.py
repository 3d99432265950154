import dataclasses

import numpy as np
import pytest

from unet_jax.check.axes import Axes
from unet_jax.check.findings import findings
from unet_jax.check.survey import survey_case
from unet_jax.data.case import Case
from unet_jax.data.intensity import normalise

CHANNELS = ("T1", "FLAIR", "T2")
LEVELS = np.array([40.0, 80.0, 160.0])


def case(name, seed=0, *, levels=LEVELS, size=(24, 24), spacing=(3.0, 1.0, 1.0), marked=True, at=8):
    """A bright square from 4 to 20 in black, with noise, and a mask of 4x4 pixels from `at` on."""
    rng = np.random.default_rng(seed)
    image = np.zeros((2, *size, 3), np.uint8)
    noise = np.array([0.2, 0.1, 0.05]) * rng.standard_normal((2, 16, 16, 3))
    image[:, 4:20, 4:20] = np.clip(levels * (1 + noise), 1, 255)
    mask = np.zeros(image.shape[:3], np.uint8)
    mask[1, at : at + 4, at : at + 4] = marked
    return Case(name, name, image, mask, spacing)


def said(*odd, classes=()):
    cases = [*(case(f"case {number}", number) for number in range(8)), *odd]
    return findings([survey_case(one, classes, 0) for one in cases], CHANNELS, classes)


def test_cases_that_are_alike_are_not_odd():
    assert said() == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"size": (32, 24)}, "1 of 9 cases has another size of slices than the usual 24x24 (odd: 32x24)."),
        (
            {"spacing": (5.0, 1.0, 1.0)},
            "1 of 9 cases has another spacing than the usual 3 x 1 x 1 mm (odd: 5 x 1 x 1 mm).",
        ),
        ({"spacing": None}, "1 of 9 cases has another spacing than the usual 3 x 1 x 1 mm (odd: unknown)."),
        ({"marked": False}, "1 of 9 cases has nothing marked (odd)."),
        # Of rows and columns 2 to 5, two of four each lie within the square: 12 of 16 pixels are outside.
        (
            {"at": 2},
            "1 of 9 cases has marked voxels outside of what the image shows, where it is 0 or air in every channel "
            "(odd: 75%): is the mask of this image, and turned as it is?",
        ),
    ],
)
def test_what_is_unlike_the_others_is_named(changes, line):
    assert said(case("odd", 9, **changes)) == [line]


def test_channels_in_another_order_are_told_by_their_brightness_and_contrast():
    odd = case("odd", 9)
    odd = dataclasses.replace(odd, image=np.ascontiguousarray(odd.image[..., [1, 2, 0]]))
    lines = said(odd)
    assert lines[0] == (
        "1 of 9 cases has channels that look like those of the others in another order than T1, FLAIR, T2 (odd: its "
        "files have FLAIR, T2, T1)."
    )


def test_a_channel_of_one_value_is_named():
    odd = case("odd", 9)
    odd.image[..., 2] = 7
    assert "1 of 9 cases has one value throughout in T2 (odd)." in said(odd)


def test_a_dark_case_is_named_for_each_channel():
    lines = said(case("odd", 9, levels=LEVELS / 8))
    assert lines == [
        f"1 of 9 cases has intensities in {name} that spread more than 4 times as far as usual, or less than a quarter "
        "(odd)."
        for name in CHANNELS
    ]


def test_a_class_that_nobody_has_is_named():
    assert said(classes=("core", "rim")) == ["No case has the class rim: check config.data.labels, or leave it out."]


def test_examples_are_few_and_all_are_counted():
    (line,) = said(*(case(f"odd {number}", number, marked=False) for number in range(5)))
    assert line == "5 of 13 cases have nothing marked (odd 0, odd 1, odd 2, …)."


def test_a_class_that_overlaps_others_has_all_its_values():
    mask = np.zeros((1, 2, 4), np.uint8)
    mask[0, 0] = (1, 2, 2, 3)
    case = Case("a", "a", np.zeros((1, 2, 4, 1), np.uint8), mask)
    found = survey_case(case, {"whole": (2, 1, 4), "core": (1, 4), "enhancing": (4,)}, 0)
    assert found.voxels == (4, 4, 2, 1)
    assert found.is_marked


def ct(name, *, air=-1000.0, field=None, at=(30, 30), flat=False):
    """A cylinder of tissue in noisy air, with a cavity of air; beyond a circle, if any, the value of the field."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64] - 31.5
    distance = np.hypot(rows, columns)
    body = np.where(distance < 20, 40.0, air)
    body[28:34, 28:34] = air
    image = body + rng.normal(0, 12, (4, 64, 64))
    if field is not None:
        image[:, distance > 31] = field
    image = image[..., None].astype(np.float32)
    mask = np.zeros((4, 64, 64), np.uint8)
    mask[1, at[0] : at[0] + 4, at[1] : at[1] + 4] = 1
    return Case(name, name, normalise(image, "volume") if flat else image, mask, (3.0, 1.0, 1.0))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("field", [None, -1024.0, -2000.0, -3024.0])
def test_air_around_a_body_is_outside_whatever_its_number(field, flat):
    for at, expected in (((40, 30), 0.0), ((29, 29), 0.0), ((4, 30), 1.0), ((2, 2), 1.0)):
        assert survey_case(ct("x", field=field, at=at, flat=flat), {}, 0).outside == expected, at


def test_a_picture_without_air_around_has_no_outside():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (4, 32, 32, 1)).astype(np.float32)
    image[:, 4:12] = 0.001
    mask = np.zeros((4, 32, 32), np.uint8)
    mask[2, 4:12] = 1
    assert survey_case(Case("x", "x", image, mask, (3.0, 1.0, 1.0)), {}, 0).outside == 0


def test_files_that_lie_otherwise_in_the_body_are_named_where_that_matters():
    lies = [Axes("LPS", 1.0)] * 6 + [Axes("RAS", 1.0), Axes("LPS", 30.0)]
    cases = [survey_case(case(f"case {n}", n), {}, 0, one) for n, one in enumerate(lies)]
    turned = (
        "1 of 8 cases has axes turned by more than 20° away from the body's (case 7: 30°), and the others have not: "
        "the network sees them turned."
    )
    other = "1 of 8 cases has another orientation than the usual LPS (case 6: RAS)."
    assert findings(cases, CHANNELS, (), "patient") == [turned]
    assert findings(cases, CHANNELS, (), "file") == [turned, other]


def test_what_is_ignored_is_not_marked():
    one = case("x")
    one.mask[0] = 255
    found = survey_case(one, {}, 0)
    assert (found.ignored, found.voxels) == (24 * 24, (24 * 24 - 16, 16))
    one.mask[1] = 0
    assert not survey_case(one, {}, 0).is_marked
