import json

import numpy as np
import pytest

from unet_jax.data import labels, regions
from unet_jax.data.formats import dataset_json
from unet_jax.errors import InputError

BRATS = {"whole": (2, 1, 4), "core": (1, 4), "enhancing": (4,)}


def test_a_mask_of_classes_that_overlap_holds_the_numbers_of_their_values():
    label_map = labels.parse("enhancing=4, whole=1+2+4, core=1+4")
    # The whole first, so that its parts are painted over it; each with what no later one has.
    assert list(label_map.items()) == list(BRATS.items())
    mask = labels.to_classes(np.array([0, 1, 2, 4]), label_map)
    assert mask.tolist() == [0, 1, 2, 3]
    assert regions.members(label_map) == ((1, 2, 3), (1, 3), (3,))
    marked = [regions.marked(mask, its).tolist() for its in regions.members(label_map)]
    assert marked == [[False, True, True, True], [False, True, False, True], [False, False, False, True]]
    assert labels.to_values(mask, label_map).tolist() == [0, 1, 2, 4]


def test_classes_that_exclude_each_other_have_their_own_numbers():
    for classes in ({"a": (50,), "b": (20, 30)}, ("a", "b")):
        assert not regions.overlap(classes)
        assert regions.members(classes) == ((1,), (2,))
        assert regions.painted(classes) is None
        assert regions.count_numbers(classes) == 2
    assert regions.members(()) == ((1,),)
    assert regions.count_numbers({}) == 1


def test_what_is_likelier_than_not_is_painted_later_over_earlier():
    probability = np.array([[0.9, 0.1, 0.1], [0.9, 0.6, 0.5], [0.9, 0.6, 0.7], [0.2, 0.3, 0.7], [0.5, 0.5, 0.5]])
    # 2 for the whole, 1 for the core and 4, of number 3, for what enhances.
    assert regions.paint(probability, regions.painted(BRATS)).tolist() == [2, 1, 3, 3, 0]


def test_the_order_of_painting_can_be_given():
    label_map = labels.parse("kidney=1+2+3, mass=2+3, tumour=2", (1, 3, 2))
    assert label_map == {"kidney": (1, 2, 3), "mass": (3, 2), "tumour": (2,)}
    assert regions.painted(label_map) == (1, 3, 2)
    # A class whose values are all in later ones is painted with its first.
    assert regions.painted(labels.parse("either=7+5, one=5, other=7")) == (2, 1, 2)


def test_ignored_and_dropped_values_stay_what_they_are():
    label_map = labels.parse("whole=1+2, core=2, background=3, ignore=9")
    assert labels.to_classes(np.array([0, 1, 2, 3, 9]), label_map).tolist() == [0, 1, 2, 0, 255]
    assert regions.members(labels.classes_of(label_map)) == ((1, 2), (2,))


@pytest.mark.parametrize(
    ("text", "order", "complaint"),
    [
        ("a=1+2, b=2", (1,), "has 1 value, and there are 2 classes"),
        ("a=1+2, b=2", (1, 1), r"has 1 for b, whose values are 2: give one of these"),
        ("a=1, b=2", (1, 2), "is for classes that overlap"),
        (None, (1, 2), "there are no config.data.labels that it is for"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(text, order, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        labels.parse(text, order)
    assert str(caught.value).startswith("config.data.regions_class_order")


def test_nnunets_description_keeps_its_order_in_the_config(tmp_path):
    path = tmp_path / "dataset.json"
    labels_of_kidneys = {"background": 0, "kidney": [1, 2, 3], "mass": [2, 3], "tumour": 2, "ignore": 4}
    description = {"channel_names": {"0": "CT"}, "labels": labels_of_kidneys, "file_ending": ".png"}
    path.write_text(json.dumps(description | {"regions_class_order": [1, 3, 2]}))
    found = dataset_json.label_map(dataset_json.read(path), path)
    assert found == {"kidney": (1, 2, 3), "mass": (3, 2), "tumour": (2,), "ignore": (4,)}
    settings = dataset_json.settings(found)
    assert labels.parse(settings["labels"], settings["regions_class_order"]) == found
    path.write_text(json.dumps(description | {"regions_class_order": [1, 3]}))
    with pytest.raises(InputError, match=r"dataset\.json, regions_class_order has 2 values, and there are 3 classes"):
        dataset_json.label_map(dataset_json.read(path), path)
    # Without one, as config.data.labels.
    path.write_text(json.dumps(description))
    assert regions.painted(labels.classes_of(dataset_json.label_map(dataset_json.read(path), path))) == (1, 3, 2)


def test_a_single_class_has_no_name():
    assert regions.count({}) == 1
    assert regions.count(("edema", "core")) == 2
