import json

import pytest

from unet_jax.errors import InputError
from unet_jax.plan.dataset import from_json, read_dataset, reader_of

GOOD = {
    "channel_names": {"0": "T1", "1": "CT"},
    "labels": {"background": 0, "organ": 1, "tumour": 2},
    "numTraining": 20,
    "file_ending": ".nii.gz",
}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}

# What is changed in GOOD (None takes a key away), and the line that says so.
MALFORMED = {
    "no labels": ({"labels": None}, "labels is missing: it must be an object {…}."),
    "no channels": (
        {"channel_names": None},
        "channel_names is missing: it must be an object of numbers from 0 and",
    ),
    "channels as a list": (
        {"channel_names": ["T1"]},
        'channel_names is ["T1"]: it must be an object of numbers from 0',
    ),
    "channels from 1": (
        {"channel_names": {"1": "T1"}},
        'channel_names is {"1": "T1"}: it must be an object of numbers',
    ),
    "a channel without a name": ({"channel_names": {"0": 1}}, 'channel_names is {"0": 1}: it must be an object'),
    "no cases": ({"numTraining": 0}, "numTraining is 0: it must be a whole number from 1."),
    "half a case": ({"numTraining": 2.5}, "numTraining is 2.5: it must be a whole number from 1."),
    "an ending that is no text": ({"file_ending": 1}, "file_ending is 1: it must be a text."),
    "background spelt otherwise": (
        {"labels": {"Background": 0, "a": 1}},
        'labels.background is missing: it must be the number 0, as {"background": 0, …}.',
    ),
    "background not 0": ({"labels": {"background": 1, "a": 0}}, "labels.background is 1: it must be the number 0"),
    "keys and values the wrong way round": (
        {"labels": {"0": "background", "1": "a"}},
        'labels.0 is "background": it must be a whole number from 0.\n  labels.1 is "a": it must be a whole ',
    ),
    "a gap": (
        {"labels": {"background": 0, "a": 1, "b": 3}},
        "labels has the numbers 0, 1, 3: they must be consecutive",
    ),
    "ignore in between": (
        {"labels": {"background": 0, "ignore": 1, "a": 2}},
        "labels has the numbers 0, 2: they must be consecutive from 0.",
    ),
    "ignore too high": (
        {"labels": {"background": 0, "a": 1, "ignore": 255}},
        "labels.ignore is 255: it must be one more than the last label, 2.",
    ),
    "regions without an order": ({"labels": REGIONS}, "regions_class_order is missing: regions need it"),
    "an order of another length": (
        {"labels": REGIONS, "regions_class_order": [1]},
        "regions_class_order has 1 number and labels 2 regions: give one for each.",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name):
    change, line = MALFORMED[name]
    values = {key: value for key, value in (GOOD | change).items() if value is not None}
    with pytest.raises(InputError) as error:
        from_json(values, "x")
    assert str(error.value).removeprefix("dataset.json:").strip().startswith(line)
    assert len(str(error.value).splitlines()) == max(1, len(line.splitlines()) + ("\n" in line))


def test_labels():
    dataset = from_json(GOOD, "x")
    assert (dataset.regions, dataset.numbers, dataset.ignored, dataset.outputs) == (None, (0, 1, 2), None, 3)
    ignoring = from_json(GOOD | {"labels": GOOD["labels"] | {"ignore": 3}}, "x")
    assert (ignoring.numbers, ignoring.ignored, ignoring.outputs) == ((0, 1, 2), 3, 3)
    # A list of one alone makes no regions.
    listed = from_json(GOOD | {"labels": {"background": 0, "organ": [1], "tumour": [2]}}, "x")
    assert (listed.regions, listed.outputs) == (None, 3)


def test_regions():
    dataset = from_json(GOOD | {"labels": REGIONS, "regions_class_order": [1, 2]}, "x")
    assert (dataset.regions, dataset.numbers, dataset.ignored, dataset.outputs) == (((1, 2), (2,)), (0, 1, 2), 3, 2)


def test_the_old_key_for_channels():
    old = {key: value for key, value in GOOD.items() if key != "channel_names"} | {"modality": {"0": "CT"}}
    assert from_json(old, "x").channels == ("CT",)


READERS = {
    (".nii.gz", None, False): "SimpleITKIO",
    (".NII.GZ", None, False): "SimpleITKIO",
    (".nii", None, False): "NibabelIO",
    (".png", None, True): "NaturalImage2DIO",
    (".tif", None, True): "NaturalImage2DIO",
    (".tif", None, False): "Tiff3DIO",
    (".tiff", None, True): "Tiff3DIO",
    (".nii.gz", "NibabelIOWithReorient", False): "NibabelIOWithReorient",
    (".nii.gz", "None", False): "SimpleITKIO",
    (".nii.gz", "MyOwnIO", False): "SimpleITKIO",
    (".dcm", None, False): None,
}


@pytest.mark.parametrize(("given", "reader"), READERS.items())
def test_reader(given, reader):
    ending, overwritten, flat = given
    values = (
        GOOD | {"file_ending": ending} | ({} if overwritten is None else {"overwrite_image_reader_writer": overwritten})
    )
    assert reader_of(from_json(values, "x"), flat=flat) == reader


def test_the_name_is_the_folders(tmp_path):
    for folder, name in (("Dataset004_Hippocampus/raw", "Dataset004_Hippocampus"), ("mine", "mine")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dataset.json").write_text(json.dumps(GOOD))
        assert read_dataset(tmp_path / folder / "dataset.json").name == name
