import copy
import dataclasses

import numpy as np
import pytest
from nnunet_answers import data_set, unpack_raw

from unet_jax.data.case import Case
from unet_jax.errors import InputError
from unet_jax.plan import fingerprint as fingerprints
from unet_jax.plan import raw
from unet_jax.plan.dataset import read_dataset
from unet_jax.plan.fingerprint import draw, from_json, read_fingerprint, spacing_of, take_fingerprint, to_json

GOOD = data_set("prostate")["fingerprint"]


@pytest.fixture(scope="module")
def raw_sets(tmp_path_factory):
    return unpack_raw(tmp_path_factory.mktemp("raw"))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", ["real_aniso_2ch_mask", "real_iso_mri"])
def test_as_nnunet_to_the_last_bit(raw_sets, name, workers):
    dataset = read_dataset(raw_sets / name / "dataset.json")
    cases = raw.cases(raw_sets / name, dataset)
    # nnU-Net's answer was made with as many.
    found = take_fingerprint(cases, lambda case: raw.read(case, dataset)[0], workers=workers, samples=10**5)
    assert to_json(found) == data_set(name)["fingerprint"]


@pytest.mark.parametrize(("voxels", "count"), [(1, 10), (5, 1), (77_777, 5_000), (300, 4096)])
def test_draw_is_choice_with_replacement(monkeypatch, voxels, count):
    # In parts that do not divide the whole.
    monkeypatch.setattr(fingerprints, "_PART", 1000)
    values = np.random.default_rng(0).random((voxels, 2)).astype(np.float32)
    generator = np.random.RandomState(1234)
    for channel, drawn in enumerate(draw(values, count)):
        np.testing.assert_array_equal(drawn, generator.choice(values[:, channel], count, replace=True))


def case(name, value, foreground=4, channels=1, spacing=(3.0, 1.0, 1.0)):
    image = np.full((2, 3, 4, channels), value, np.float32)
    mask = np.zeros(24, np.uint8)
    mask[:foreground] = 1
    return Case(name, name, image, mask.reshape(2, 3, 4), spacing)


def take(*cases, samples=100):
    return take_fingerprint(cases, lambda each: each, samples=samples)


def test_each_case_weighs_the_same_whatever_its_foreground():
    found = take(case("a", 1.0, foreground=1), case("b", 5.0, foreground=20)).intensities[0]
    assert (found.mean, found.std, found.min, found.max) == (3.0, 2.0, 1.0, 5.0)
    assert (found.percentile_00_5, found.median, found.percentile_99_5) == (1.0, 3.0, 5.0)


def test_a_case_without_foreground_adds_nothing_but_precision():
    rng = np.random.default_rng(0)
    with_noise = dataclasses.replace(case("a", 1.0, 24), image=rng.random((2, 3, 4, 1)).astype(np.float32))
    # The third part of the samples is that of the other case, and not drawn.
    drawn = draw(with_noise.image.reshape(24, 1), 50)[0]
    found = take(with_noise, case("b", 7.0, 0)).intensities[0]
    assert found.max < 1
    # As in nnU-Net, where an empty list makes float64 of all samples.
    assert found.mean == np.mean(drawn.astype(np.float64)) != np.float64(np.mean(drawn))


def test_cropped_shape_and_relative_size():
    inner = case("a", 0.0, 0)
    inner.image[:, 1:3, 1:3] = 1
    inner.mask[0, 1, 1] = 1
    found = take(inner)
    assert found.shapes.tolist() == [[2, 2, 2]]
    assert found.relative_size == 8 / 24
    assert found.spacings.tolist() == [[3.0, 1.0, 1.0]]


def test_spacing_of_files_that_do_not_say():
    assert spacing_of(case("a", 1.0)) == (3.0, 1.0, 1.0)
    assert spacing_of(case("a", 1.0, spacing=None)) == (1.0, 1.0, 1.0)
    assert spacing_of(Case("a", "a", np.ones((1, 3, 4, 3), np.uint8), None)) == (999.0, 1.0, 1.0)


def refuse(name):
    raise InputError(f"{name}: the file is damaged: restore it.")


def test_every_case_that_cannot_be_used_is_a_line():
    bare = dataclasses.replace(case("bare", 1.0), mask=None)
    with pytest.raises(InputError) as error:
        take_fingerprint(
            ["x", bare, "y", case("good", 1.0)], lambda each: refuse(each) if isinstance(each, str) else each
        )
    assert str(error.value).splitlines() == [
        "No plan can be made:",
        "  x: the file is damaged: restore it.",
        "  bare has no mask: add it, or leave the case out.",
        "  y: the file is damaged: restore it.",
    ]


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "There is no case to plan for"),
        ([case("a", 1.0, 0), case("b", 1.0, 0)], "No case has a foreground voxel"),
        ([case("a", 1.0), case("b", 1.0, channels=2)], "cases have 1 and 2 channels: all must have as many"),
        ([case("a", np.nan)], "a has foreground voxels that are NaN or infinite"),
    ],
)
def test_nothing_to_plan_for(cases, message):
    with pytest.raises(InputError, match=message):
        take(*cases)


STATISTICS = GOOD["foreground_intensity_properties_per_channel"]["0"]
CHANNELS = "foreground_intensity_properties_per_channel"
SHAPES, SPACINGS, PART = "shapes_after_crop", "spacings", "median_relative_size_after_cropping"


def channel(**changes):
    statistics = {key: value for key, value in (STATISTICS | changes).items() if value is not None}
    return {CHANNELS: {"0": statistics}}


# What is changed in GOOD (None takes a key away), and the line that says so.
MALFORMED = {
    "no spacings": (
        {SPACINGS: None},
        "spacings is missing: it must be a list of values, each a list of 3 values, each",
    ),
    "no shapes": ({SHAPES: None}, "shapes_after_crop is missing: it must be a list of values, each a list of 3 values"),
    "no intensities": ({CHANNELS: None}, f"{CHANNELS} is missing: it must be an object {{…}}."),
    "no relative size": ({PART: None}, f"{PART} is missing: it must be a number above 0, up to 1."),
    "no case": ({SPACINGS: [], SHAPES: []}, "shapes_after_crop is []: it must be a list of values", "spacings is []:"),
    "a case without a shape": (
        {SPACINGS: [[1, 1, 1], [1, 1, 1]], SHAPES: [[5, 5, 5]]},
        "shapes_after_crop has 1 case and spacings 2: give both for each case.",
    ),
    "two axes": ({SPACINGS: [[1, 1]]}, "spacings is [[1, 1]]: it must be a list of values, each a list of 3 values"),
    "a spacing of 0": (
        {SPACINGS: [[0, 1, 1]]},
        "spacings is [[0, 1, 1]]: it must be a list of values, each a list of 3",
    ),
    "a spacing of NaN": ({SPACINGS: [[float("nan"), 1, 1]]}, "spacings is [[NaN, 1, 1]]: it must be"),
    "a spacing that is a text": ({SPACINGS: [["1", 1, 1]]}, 'spacings is [["1", 1, 1]]: it must be'),
    "half a voxel": ({SHAPES: [[5.5, 5, 5]]}, "shapes_after_crop is [[5.5, 5, 5]]: it must be"),
    "a shape of true": ({SHAPES: [[True, 5, 5]]}, "shapes_after_crop is [[true, 5, 5]]: it must be"),
    "a relative size of percent": ({PART: 37}, f"{PART} is 37: it must be a number above 0, up to 1."),
    "channels from 1": ({CHANNELS: {"1": STATISTICS}}, f'{CHANNELS} has the channels "1": they must count from 0.'),
    "a channel that is a number": ({CHANNELS: {"0": 5}}, f"{CHANNELS}.0 is 5: it must be an object {{…}}."),
    "no mean": (channel(mean=None), f"{CHANNELS}.0.mean is missing: it must be a number."),
    "a negative deviation": (channel(std=-1), f"{CHANNELS}.0.std is -1: it must be a number from 0."),
    "an infinite maximum": (channel(max=float("inf")), f"{CHANNELS}.0.max is Infinity: it must be a number."),
    "percentiles that cross": (
        channel(percentile_00_5=1300),
        f"{CHANNELS}.0.percentile_00_5 is 1300: it must not be above median, which is 380.",
    ),
    "a statistic misspelt": (
        channel(median=None, medain=380),
        f"{CHANNELS}.0.median is missing: it must be a number.",
        f"{CHANNELS}.0.medain is unknown: did you mean median?",
    ),
    "something else": ({"comment": "hello"}, "comment is unknown: remove it."),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name):
    change, *lines = MALFORMED[name]
    values = {key: value for key, value in (copy.deepcopy(GOOD) | change).items() if value is not None}
    with pytest.raises(InputError) as error:
        from_json(values, "f.json")
    found = str(error.value).splitlines()
    found = [found[0].removeprefix("f.json: ")] if len(found) == 1 else [line.strip() for line in found[1:]]
    assert len(found) == len(lines)
    assert all(one.startswith(line) for one, line in zip(found, lines, strict=True)), found


TEXTS = {
    "no JSON": ("{", "f.json is not JSON (Expecting property name"),
    "a list": ("[1]", "f.json holds [1]: it must be an object {…}."),
    "empty": ("", "f.json is not JSON (Expecting value"),
    "not text": (b"\xff\xfe\x00", "f.json is not JSON (its bytes are not UTF-8): restore it."),
    "a key twice": (
        '{"spacings": [], "spacings": []}',
        'f.json: the key "spacings" stands twice in one object: remove one.',
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_malformed_text(tmp_path, name):
    text, line = TEXTS[name]
    (tmp_path / "f.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        read_fingerprint(tmp_path / "f.json")
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(line)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"f.json cannot be read \(No such file or directory\): check the path."):
        read_fingerprint(tmp_path / "f.json")


def test_round_trip(tmp_path):
    fingerprints.write_fingerprint(tmp_path / "f.json", from_json(GOOD))
    assert to_json(read_fingerprint(tmp_path / "f.json")) == GOOD
