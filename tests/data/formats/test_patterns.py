import re
from pathlib import Path

import numpy as np
import pytest

from unet_jax.data.formats import patterns
from unet_jax.data.formats.patterns import IMAGES, MASKS, parse, parse_pair
from unet_jax.errors import InputError


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        ("images/{case}.png", "images/anna 1.png", {"case": "anna 1"}),
        ("images/{case}.png", "IMAGES/anna.PNG", {"case": "anna"}),
        ("images/{case}.png", "images/b/anna.png", None),
        ("images/{case:.+}.png", "images/b/anna.png", {"case": "b/anna"}),
        ("./{case}/{case}_{channel:flair|t1|t1ce}.nii.gz", "a/a_t1ce.nii.gz", {"case": "a", "channel": "t1ce"}),
        ("{case}/{case}_{channel:flair|t1|t1ce}.nii.gz", "a/b_t1.nii.gz", None),
        ("{case}_{channel:T1+C|T1}.nii", "a_T1+C.nii", {"case": "a", "channel": "T1+C"}),
        ("{case}_{channel:[0-9]{4}}.png", "a_b_0001.png", {"case": "a_b", "channel": "0001"}),
        (r"Image_{patient:\d+}{eye:[LR]}.jpg", "Image_01L.jpg", {"patient": "01", "eye": "L"}),
        ("{patient}/{case}_{slice}.tif", "p/c_2_010.tif", {"patient": "p", "case": "c_2", "slice": "010"}),
        ("{patient}/{case}_{slice}.tif", "p/c_x.tif", None),
        ("{case}_mask*.png", "benign (1)_mask_1.png", {"case": "benign (1)"}),
        ("*/{case}?.png", "x/ab.png", {"case": "a"}),
        ("**/{case}.png", "a.png", {"case": "a"}),
        ("**/{case}.png", "x/y/a.png", {"case": "a"}),
        ("x/**", "x/a", None),
        ("a.b[1]/{case}.png", "a.b[1]/c.png", {"case": "c"}),
        ("a.b/{case}.png", "axb/c.png", None),
        ("{case}.png", "Mu\u0308ller.png", {"case": "M\u00fcller"}),
    ],
)
def test_a_path_is_matched_as_the_pattern_says(pattern, path, fields):
    if "{" not in pattern:
        with pytest.raises(InputError, match="has no field"):
            parse(pattern, IMAGES)
        return
    assert parse(pattern, IMAGES).match(Path(path)) == fields


def test_what_is_rendered_is_parsed_back():
    rng = np.random.default_rng(0)
    letters = np.array(list("abcXYZ019 -.+äß漢"))

    def word():
        return "".join(rng.choice(letters, rng.integers(1, 8))).strip(". ") or "a"

    for _ in range(300):
        fields = {"patient": word(), "case": word(), "slice": str(rng.integers(0, 200)), "channel": word()}
        others = [word() for _ in range(2)]
        # Words are apart by a sign that is in none of them: else two readings would be right.
        text = rng.choice(
            [
                "images/{patient}/{case}_{slice}_{channel}.png",
                "{patient}_{case}/{patient}_{slice:[0-9]+}/{channel}.nii.gz",
                "{case}/{case}_{patient}#{slice}~{channel:[^/~#]+}.tif",
                "{patient}/x.{y}/{case}_{slice}_{channel:WORDS}.png",
            ]
        )
        text = text.replace("WORDS", "|".join(dict.fromkeys([*others, fields["channel"]])))
        text = text.replace("{y}", re.sub(r"[{}*?]", "", word()))
        pattern = parse(text, IMAGES)
        assert pattern.match(Path(pattern.render(fields))) == {name: fields[name] for name in pattern.fields}, text


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("a/{case", "config.data.images='a/{case': the brace at '{case' is not closed: write fields as {case}."),
        ("a}/{case}", "config.data.images='a}/{case}': '}' stands by itself at '}/{case}': remove it, or open it as in "
                      "{case}."),
        ("a\\{case}", r"config.data.images='a\\{case}': '\\' stands by itself at '\\{case}': write / between folders."),
        ("{}", "config.data.images='{}': '{}' is not a field: write it as {case} or {patient:[0-9]+}, with a name in "
               "small letters."),
        ("{Case}", "config.data.images='{Case}': '{Case}' is not a field: write it as {case} or {patient:[0-9]+}, with "
                   "a name in small letters."),
        ("{case:}", "config.data.images='{case:}': '{case:}' is not a field: write it as {case} or {patient:[0-9]+}, "
                    "with a name in small letters."),
        ("{case:[}", "config.data.images='{case:[}': '{case:[}' is not a regular expression (unterminated character "
                     "set at position 0)."),
        ("{case:(?P<x>a)}", "config.data.images='{case:(?P<x>a)}': '{case:(?P<x>a)}' has a group with a name: write "
                            "(?:…) in its place."),
        ("a/*.png", "config.data.images='a/*.png': has no field: write {case} where the case's name stands, as in "
                    "'images/{case}.png'."),
        ("/data/{case}.png", "config.data.images='/data/{case}.png': leads out of config.data.root: write the path "
                             "from that folder, as in 'images/{case}.png'."),
        ("a/../../{case}.png", "config.data.images='a/../../{case}.png': leads out of config.data.root: write the path "
                               "from that folder, as in 'images/{case}.png'."),
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_said_with_the_piece(pattern, line):
    with pytest.raises(InputError) as caught:
        parse(pattern, IMAGES)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("images", "masks", "line"),
    [
        ("{case}.png", None, "config.data.images is set and config.data.masks is not: set both, as in "
                             "'images/{case}.png' and 'masks/{case}.png'."),
        ("{case}.png", "{case}.png", "config.data.images='{case}.png' is config.data.masks as well: say in what their "
                                     "paths differ, as in '{case}_mask.png'."),
        ("i/{case}.png", "m/{case}{eye}.png", "config.data.masks='m/{case}{eye}.png': the field {eye} is not in "
                                              "config.data.images='i/{case}.png': add it there, or write * in its "
                                              "place."),
        ("i/{case}{eye}.png", "m/{case}.png", "config.data.images='i/{case}{eye}.png': the field {eye} is not in "
                                              "config.data.masks='m/{case}.png', so that images and masks do not pair: "
                                              "add it there, or write * in its place."),
        ("i/{case}.png", "m/{case}_{channel}.png", "config.data.masks='m/{case}_{channel}.png': has the field "
                                                   "{channel}, which images alone have: write * where it stands."),
    ],
)  # fmt: skip
def test_patterns_that_do_not_fit_each_other_are_named(images, masks, line):
    with pytest.raises(InputError) as caught:
        parse_pair(images, masks)
    assert str(caught.value) == line


def test_the_order_of_channels_and_the_suffix_are_the_patterns():
    assert parse("{case}_{channel:t2|t1|flair}.nii.gz", IMAGES).channels == ("t2", "t1", "flair")
    assert parse("{case}_{channel:[ab]}.nii.gz", IMAGES).channels is None
    for text, suffix in (("{case}.NII.gz", ".nii.gz"), ("{case}.v1.png", ".png"), ("{case}.*", "."), ("{case}", "")):
        assert patterns.suffix(parse(text, MASKS)) in (suffix, "")
