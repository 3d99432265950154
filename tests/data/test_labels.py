import numpy as np
import pytest

from unet_jax.data import labels
from unet_jax.errors import InputError


def test_a_label_map_is_parsed_in_order():
    assert labels.parse(None) is None
    assert labels.parse("tumour=255") == {"tumour": (255,)}
    parsed = labels.parse(" edema = 2, core=1 + 4 ")
    assert list(parsed.items()) == [("edema", (2,)), ("core", (1, 4))]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is not a new name"),
        ("tumour", "'tumour' is not a new name"),
        ("tumour=x", "'tumour=x' is not a new name"),
        ("a=1, a=2", "'a=2' is not a new name"),
        ("a=1+2, b=2+1", "a and b have the same values"),
        ("a=1+1, b=2", "a has 1 twice"),
        ("a=0", "0 is background"),
        (f"{'a' * 65}=1", "is not a class name: it must have at most 64 printable characters"),
        ("a\nb=1", r"'a\\nb' is not a class name"),
    ],
)
def test_what_is_not_a_label_map_is_refused(text, complaint):
    with pytest.raises(InputError, match=r"config\.data\.labels=.*") as caught:
        labels.parse(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.dtype(">i4")])
def test_values_become_classes(dtype):
    mask = np.array([[0, 50], [100, 150]], dtype)
    found = labels.to_classes(mask, {"edema": (50,), "core": (100, 150)})
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [2, 2]]


@pytest.mark.parametrize(
    ("label_map", "values", "dtype"),
    [
        ({"edema": (50,), "core": (20,)}, [0, 50, 20], np.uint8),
        ({"edema": (1000,), "core": (2,)}, [0, 1000, 2], np.uint16),
        ({"edema": (50,), "core": (100, 150)}, [0, 1, 2], np.uint8),
        ({"edema": (50,), "core": (-1,)}, [0, 1, 2], np.uint8),
        ({"edema": (50,), "core": (65536,)}, [0, 1, 2], np.uint8),
    ],
)
def test_classes_become_values_again_where_each_has_one(label_map, values, dtype):
    found = labels.to_values(np.array([[0, 1, 2]], np.uint8), label_map)
    assert found.tolist() == [values]
    assert found.dtype == dtype


@pytest.mark.parametrize("top", [1, 255])
def test_without_a_map_0_and_1_and_0_and_255_are_one_class(top):
    assert labels.to_classes(np.array([[0, top]], np.uint8), None).tolist() == [[0, 1]]
    assert labels.to_classes(np.zeros((1, 2), np.uint8), None).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("values", "label_map", "complaint"),
    [
        ([0, 1, 255], None, "the values 1 beside 0 and 255"),
        ([0, 2], None, "the values 2 beside 0 and 1"),
        ([0, 3, 4, 5, 6, 7, 8], {"a": (3,)}, "the values 4, 5, 6, 7, 8 beside 0 and 3"),
        ([0, -1], {"a": (3,)}, "the values -1 beside 0 and 3"),
        ([0, 0.5], None, "not whole numbers"),
        ([0, np.nan], None, "1 value that is NaN or infinite"),
        ([0, np.inf], None, "1 value that is NaN or infinite"),
    ],
)
def test_values_that_mean_nothing_are_listed(values, label_map, complaint):
    with pytest.raises(InputError, match=complaint):
        labels.to_classes(np.array([values]), label_map)


def test_colours_are_values_of_their_own():
    label_map = labels.parse("tumour=#ff0000, node=#00FF00+#0000ff, background=#000000+#808080")
    red, green, blue, grey = (labels.COLOUR | value for value in (0xFF0000, 0x00FF00, 0x0000FF, 0x808080))
    assert label_map == {"tumour": (red,), "node": (green, blue), "background": (grey,)}
    mask = np.array([labels.COLOUR, red, green, blue, grey])
    assert labels.to_classes(mask, label_map).tolist() == [0, 1, 2, 2, 0]
    assert labels.file_values(labels.classes_of(label_map)) == [1, 2]
    assert [labels.written(value) for value in (red, 7)] == ["#ff0000", "7"]
    with pytest.raises(InputError, match="has both colours and numbers: write all as one of them"):
        labels.parse("a=1, b=#ff0000")
    with pytest.raises(InputError, match="'a=#ff00' is not a new name with its values"):
        labels.parse("a=#ff00")


def test_values_of_the_background_are_dropped_and_are_no_class():
    label_map = labels.parse("tumour=2, background=0+1")
    assert label_map == {"tumour": (2,), "background": (1,)}
    assert labels.classes_of(label_map) == {"tumour": (2,)}
    assert labels.to_classes(np.array([0, 1, 2]), label_map).tolist() == [0, 0, 1]
    assert labels.parse("tumour=2, background=0") == {"tumour": (2,)}
    with pytest.raises(InputError, match="1 is both background or ignore and something else"):
        labels.parse("tumour=1, background=1")
    with pytest.raises(InputError, match="has 0 classes"):
        labels.parse("background=1")


def test_numbers_next_to_whole_ones_are_these_and_others_are_refused():
    mask = np.array([0, 0.99999994, 1.0005, 1e-5, -0.0004], np.float32)
    assert labels.to_classes(mask, None).tolist() == [0, 1, 1, 0, 0]
    with pytest.raises(InputError, match=r"not whole numbers: .*, or set config\.data\.mask_threshold"):
        labels.to_classes(np.array([0, 0.998], np.float32), None)


def test_a_threshold_takes_values_from_it_on():
    assert labels.to_classes(np.array([0, 127, 128, 255], np.uint8), None, 128).tolist() == [0, 0, 1, 1]
    assert labels.to_classes(np.array([np.nan, 0, 1]), None, 1).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("values", "label_map", "remedy"),
    [
        (
            [0, 1, 255],
            {"a": (1,)},
            "such as 'a=1+255' to take them as the same, or 'a=1, background=255' to leave them",
        ),
        ([0, 1, 3], {"a": (1,), "b": (2,)}, "such as 'a=1, b=2, background=3' to leave them out."),
        ([0, 1, 2, 3, 4, 255], None, "that JPEG smeared, set config.data.mask_threshold=128."),
    ],
)
def test_the_flag_that_takes_other_values_is_spelt_out(values, label_map, remedy):
    with pytest.raises(InputError) as caught:
        labels.to_classes(np.array(values), label_map)
    assert remedy in str(caught.value)
    if remedy.startswith("such as '"):
        [flag] = [part for part in str(caught.value).split("'") if "background" in part]
        labels.to_classes(np.array(values), labels.parse(flag))


def test_ignored_values_are_no_class_and_no_background():
    label_map = labels.parse("ignore=255+7, edema=1, background=9, core=2")
    assert list(labels.classes_of(label_map)) == ["edema", "core"]
    assert labels.numbers(label_map) == {1: (1,), 2: (2,), 255: (255, 7)}
    assert labels.to_classes(np.array([0, 1, 2, 7, 9, 255]), label_map).tolist() == [0, 1, 2, 255, 0, 255]
    assert labels.file_values(labels.classes_of(label_map)) == [1, 2]
    with pytest.raises(InputError, match="1 is both background or ignore and something else"):
        labels.parse("tumour=1, ignore=1")
    with pytest.raises(InputError, match="has 0 classes"):
        labels.parse("ignore=1")
    with pytest.raises(InputError, match="such as 'tumour=1, ignore=255, background=3' to leave them out"):
        labels.to_classes(np.array([0, 3]), labels.parse("tumour=1, ignore=255"))


def test_masks_without_what_is_ignored():
    mask = np.array([0, 1, 255, 2], np.uint8)
    assert labels.without_ignored(mask).tolist() == [0, 1, 0, 2]
    assert labels.where_labelled(np.array([1, 1, 1, 1], np.uint8), mask).tolist() == [1, 1, 0, 1]
    assert labels.without_ignored(mask[:2]).tolist() == [0, 1]
