"""The page as it is written, and as Chromium shows it, without network, from the disk."""

import dataclasses
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from scored_cases import SCORED_HOW, stages

from unet_jax.data.case import Case
from unet_jax.metrics import cases as scoring
from unet_jax.metrics.summary import summarise
from unet_jax.report import case_view
from unet_jax.report import page as report_page

HOSTILE = "<script>alert(1)</script>"
HOSTILE_ATTRIBUTE = '"><img src=x onerror=alert(1)>'
SLICES, SIZE = 6, 32
# Top, left, rows and columns of each case's true square. The first slice has none, the fifth one of twice the rows.
TRUE = {"missed": (4, 4, 6, 8), HOSTILE: (4, 4, 8, 8), "good": (4, 4, 8, 8), "empty": (0, 0, 0, 0)}
# How many of its columns are predicted.
PREDICTED = {"missed": 0, HOSTILE: 4, "good": 7, "empty": 0}
FLAIR = 1


def square(top, left, rows, columns):
    mask = np.zeros((SLICES, SIZE, SIZE), np.uint8)
    mask[1:, top : top + rows, left : left + columns] = 1
    mask[4, top : top + 2 * rows, left : left + columns] = 1
    return mask


CLASSES = ("edema", HOSTILE)


def scored_cases():
    for name, (top, left, rows, columns) in TRUE.items():
        image = np.zeros((SLICES, SIZE, SIZE, 3), np.uint8) + np.array([40, 80, 120], np.uint8)
        image[:, ::4] //= 2
        case = Case(name, name, image, square(top, left, rows, columns))
        yield case, np.arange(SLICES, dtype=np.int32), square(top, left, rows, PREDICTED[name])


EPOCHS = [
    {"step": 10 * n, "epoch": n, "train_loss": 1 / n, "train_dice": 0.1 * n, "val_dice": 0.8 - (n - 3) ** 2 / 10}
    for n in range(1, 6)
]
SUMMARY = SCORED_HOW | {"seconds_per_case": 1.234}


def scored_classes():
    """As `scored_cases`, with a second class where the fifth slice has more rows than the others."""
    for case, numbers, mask in scored_cases():
        top, _, rows, _ = TRUE[case.name]
        for one in (case.mask, mask):
            one[:, top + rows :] *= 2
        yield case, numbers, mask


def write(
    path, pictured=tuple(TRUE), title="run", epochs=EPOCHS, classes=(), spacing=None, edges=None, origin=None, **changes
):
    several = scored_classes() if classes else scored_cases()
    scored = {case.name: (dataclasses.replace(case, spacing=spacing), numbers, mask) for case, numbers, mask in several}
    predicted = [(n, numbers, mask) for n, (_, numbers, mask) in enumerate(scored.values())]
    cases = [case for case, _, _ in scored.values()]
    scores = scoring.score_cases(cases, predicted, tolerance=2.0, stages=stages(), classes=classes)
    rows = scores["as_predicted"].rows
    report_page.write(
        path,
        title=title,
        summary=SUMMARY | summarise(rows, scores["as_predicted"].counts) | changes,
        rows=rows,
        epochs=epochs,
        config={"seed": 7, "model": {"name": "tutorial"}},
        sequences=("pre-contrast", "FLAIR", "post-contrast"),
        first_sequence=FLAIR,
        pictures=case_view.within_budget((scored[name] for name in pictured), 10**7, classes, lambda case: edges),
        origin=origin,
    )
    return path.read_text(encoding="utf-8")


class Text(HTMLParser):
    """The page's elements, and its text outside of styles and scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.within = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = tag

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, data):
        if self.within not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write(path)
    return path


def test_the_headline_is_there_without_any_script(tmp_path):
    parsed = Text(write(tmp_path / "report.html"))
    # Dice of the cases: 0, 2*4/(8+4), 2*7/(8+7), and one that is undefined
    mean = np.mean([0, 8 / 12, 14 / 15])
    assert "1 of 4 patients are empty in both and stand in no mean" in parsed.text
    assert f"{mean:.3f}" in parsed.text
    assert "95 % interval" in parsed.text
    for fact in (
        "test split",
        "by patient",
        "4 patients, 4 cases, 24 slices",
        "step 30",
        "1.23",
        "0123abcd",
        "tutorial",
    ):
        assert fact in parsed.text, fact
    assert "Inflated" not in parsed.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"split_by": "leaky: slices of one patient stand on several sides"}, "Inflated scores"),
        ({"split": "train"}, "Training cases"),
        ({"split": "all", "split_by": "training cases included"}, "Training cases"),
        ({"split": "all", "split_by": "every case of other/<b>"}, "every case of other/<b>"),
        ({"damaged_checkpoints": [{"step": 40, "faults": ["a file is short"]}]}, "step 40: a file is short"),
    ],
)
def test_what_a_reader_must_know_is_said(changes, text, tmp_path):
    assert text in Text(write(tmp_path / "report.html", **changes)).text


def test_names_and_titles_stay_text(tmp_path):
    page = write(tmp_path / "report.html", title=HOSTILE + HOSTILE_ATTRIBUTE + "{{script}}\udcff")
    parsed = Text(page)
    assert HOSTILE + HOSTILE_ATTRIBUTE + "{{script}}" in parsed.text
    assert HOSTILE not in page
    assert all("onerror" not in attributes for _, attributes in parsed.tags)
    # one is the page's, the others hold pictures
    scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
    assert [attributes.get("type") for attributes in scripts] == ["application/json"] * len(TRUE) + [None]


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    page = write(tmp_path / "report.html")
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_what_is_undefined_is_a_dash_and_stands_last(tmp_path):
    undefined = {"mean": None, "median": None, "std": None, "ci95": None, "patients": 0, "unit": "pixels"}
    page = write(tmp_path / "report.html", hd95_per_patient=undefined, lesions=None)
    assert "undefined for every patient" in page
    assert "None" not in Text(page).text


def test_a_run_without_history_and_cases_without_pictures(tmp_path):
    parsed = Text(write(tmp_path / "report.html", pictured=("missed", HOSTILE), epochs=[]))
    assert "no history" in parsed.text
    assert "2 of 4 cases without pictures" in parsed.text
    assert "good, empty" in parsed.text


def test_scores_are_by_picture_where_nobody_named_patients(tmp_path):
    parsed = Text(write(tmp_path / "report.html", unit="picture"))
    for text in (
        "Dice per picture, mean",
        "Dice of each picture",
        "IoU per picture, mean",
        "all pictures as one volume",
    ):
        assert text in parsed.text
    assert "4 pictures, 4 cases, 24 slices" in parsed.text


@pytest.fixture
def open_page(browser, page):
    """Opens the page; at the end, nothing may have gone wrong in it or been asked of the network."""
    contexts, faults, requests = [], [], []

    def opened(width=1200, height=900, path=page, **options):
        context = browser.new_context(offline=True, viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        tab = context.new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}


def names(tab):
    return tab.locator("#table tbody th").all_inner_texts()


WORST_FIRST = ["missed", HOSTILE, "good", "empty"]


def test_the_table_sorts(open_page):
    tab = open_page()
    assert names(tab) == WORST_FIRST

    head = tab.locator("#table thead")

    def sort_by(heading):
        button = head.get_by_role("button", name=heading, exact=True)
        button.press("Enter")
        assert head.locator("th:not([aria-sort=none])").count() == 1
        return button.locator("xpath=ancestor::th").get_attribute("aria-sort"), names(tab)

    assert head.locator("th:not([aria-sort=none])").inner_text() == "Dice"
    assert sort_by("Dice") == ("descending", [*WORST_FIRST[2::-1], "empty"])  # undefined: last, whichever way
    assert tab.locator("#sorted").inner_text() == "Sorted by Dice, descending."
    assert sort_by("Dice") == ("ascending", WORST_FIRST)
    assert sort_by("Case") == ("ascending", [HOSTILE, "empty", "good", "missed"])
    # where nothing is predicted, precision is undefined: last, whichever way
    for direction in ("ascending", "descending"):
        found, order = sort_by("Precision")
        assert found == direction
        assert set(order[2:]) == {"missed", "empty"}
    # 6 rows that are missed altogether, then 8 of which half is missed, and 8 of which an eighth is
    assert sort_by("Volume difference, voxels")[1] == ["missed", HOSTILE, "good", "empty"]


def shown(tab):
    return tab.locator("#announcement").inner_text().split("\n")


def test_a_case_opens_at_its_largest_slice_and_slides(open_page):
    tab = open_page()
    tab.get_by_role("button", name="good").click()
    assert tab.locator("#viewer").is_visible()
    assert tab.get_by_role("heading", name="good").is_visible()
    assert shown(tab) == ["Slice 5 of 6", "true 128 pixels, predicted 112 pixels, Dice 0.933"]
    # the slider has the focus: its own keys work at once
    tab.keyboard.press("ArrowLeft")
    assert shown(tab) == ["Slice 4 of 6", "true 64 pixels, predicted 56 pixels, Dice 0.933"]
    assert tab.locator("#slice").get_attribute("aria-valuetext").startswith("Slice 4 of 6")
    tab.keyboard.press("Home")
    assert shown(tab) == ["Slice 1 of 6", "no tumour, and none predicted"]
    # elsewhere in the viewer the arrow keys move too, and the wheel over the picture
    tab.locator("#close").focus()
    tab.keyboard.press("ArrowRight")
    assert shown(tab)[0] == "Slice 2 of 6"
    tab.locator(".picture").hover()
    tab.mouse.wheel(0, 100)
    tab.wait_for_function("document.getElementById('slice').value === '2'")
    assert shown(tab)[0] == "Slice 3 of 6"
    tab.locator("#slice").fill("4")
    assert shown(tab)[0] == "Slice 5 of 6"


def test_the_strip_over_the_slider_has_the_areas(open_page):
    tab = open_page()
    tab.get_by_role("button", name="good").click()

    def bars(kind):
        return tab.locator(f"#areas rect.{kind}").evaluate_all(
            "all => all.map(one => Number(one.getAttribute('height')))"
        )

    # five slices with tumour; the heights are as the areas
    assert bars("true") == pytest.approx([9.5, 9.5, 9.5, 19, 9.5])
    assert bars("predicted") == pytest.approx([height * 7 / 8 for height in bars("true")])
    thumb = tab.locator("#areas .here").bounding_box()["x"]
    track = tab.locator("#slice").bounding_box()
    assert thumb == pytest.approx(track["x"] + 10 + (track["width"] - 20) * 4 / 5, abs=1.5)


def test_the_outlines_lie_on_the_pictures_pixels_and_toggle(open_page):
    tab = open_page()
    tab.get_by_role("button", name="good").click()

    def box(colour):
        """Left, top, right and bottom of what has this colour (blue, green, red), in pixels of the image."""
        tab.wait_for_function("document.getElementById('picture').complete")
        picture = cv2.imdecode(np.frombuffer(tab.locator(".picture").screenshot(), np.uint8), cv2.IMREAD_COLOR)
        rows, columns = np.nonzero((np.abs(picture.astype(int) - colour) < 30).all(-1))
        scale = len(picture) / SIZE
        return [edge / scale for edge in (columns.min(), rows.min(), columns.max(), rows.max())] if len(rows) else None

    green, orange = (0x73, 0x9E, 0x00), (0x00, 0x9F, 0xE6)
    # slice 5: rows 4 to 20; columns 4 to 12, of which 4 to 11 are predicted
    tab.locator("#show-predicted").uncheck()
    assert box(green) == pytest.approx([4, 4, 12, 20], abs=0.2)
    assert box(orange) is None
    tab.keyboard.press("p")
    tab.keyboard.press("t")
    assert not tab.locator("#show-true").is_checked()
    assert box(orange) == pytest.approx([4, 4, 11, 20], abs=0.2)
    assert box(green) is None
    tab.keyboard.press("t")
    assert box(green) is not None


def test_each_class_has_its_scores_its_colour_and_its_switch(open_page, tmp_path):
    write(tmp_path / "classes.html", classes=CLASSES, threshold=None)
    tab = open_page(path=tmp_path / "classes.html")
    assert [cell.inner_text() for cell in tab.locator("#by-class tbody th").all()] == list(CLASSES)
    assert tab.locator("#table thead").inner_text().count("Dice, ") == 2
    tab.get_by_role("button", name="good").click()
    text = tab.locator("#announcement").inner_text()
    # slice 5: 8 rows of each class; of 8 columns, 7 are predicted
    assert text.splitlines()[1:] == [
        f"{name}: true 64 pixels, predicted 56 pixels, Dice {14 / 15:.3f}" for name in CLASSES
    ]

    def drawn():
        return [bool(path.get_attribute("d")) for path in tab.locator("#outlines > path:not(.halo)").all()]

    assert drawn() == [True] * 4
    colours = tab.locator("#outlines > path:not(.halo)").evaluate_all(
        "paths => paths.map((path) => getComputedStyle(path).stroke)"
    )
    assert colours == ["rgb(230, 159, 0)"] * 2 + ["rgb(86, 180, 233)"] * 2
    tab.get_by_label("edema").uncheck()
    assert drawn() == [False, False, True, True]
    tab.keyboard.press("p")
    assert drawn() == [False, False, True, False]


def test_sequences_can_be_chosen_and_pictures_are_decoded(open_page):
    tab = open_page()
    tab.get_by_role("button", name="missed", exact=True).click()
    found = {}
    for name in ("FLAIR", "pre-contrast", "post-contrast"):
        tab.get_by_label(name).check()
        tab.wait_for_function("document.getElementById('picture').complete")
        assert tab.locator("#picture").get_attribute("alt") == f"Slice 5, {name}"
        found[name] = tab.evaluate(
            """() => {
              const [canvas, picture] = [document.createElement("canvas"), document.getElementById("picture")];
              [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
              const context = canvas.getContext("2d");
              context.drawImage(picture, 0, 0);
              return [canvas.width, canvas.height, context.getImageData(30, 30, 1, 1).data[0]];
            }"""
        )
    for name, grey in (("pre-contrast", 40), ("FLAIR", 80), ("post-contrast", 120)):
        assert found[name] == pytest.approx([SIZE, SIZE, grey], abs=3)


def test_the_viewer_goes_from_case_to_case_and_gives_the_focus_back(open_page):
    tab = open_page()
    tab.get_by_role("button", name="missed", exact=True).focus()
    tab.keyboard.press("Enter")
    heading = tab.locator("#viewed")
    assert heading.inner_text() == "missed"
    assert tab.get_by_role("button", name="Previous case").is_disabled()
    tab.get_by_role("button", name="Next case").click()
    assert heading.inner_text() == HOSTILE
    scores = tab.locator("#scores-of-case").inner_text()
    assert f"{8 / 12:.3f}" in scores
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()
    # A dialog tells that it was closed in a task of its own, a moment after it is gone.
    tab.wait_for_function("text => document.activeElement.textContent === text", arg=HOSTILE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_no_need_to_scroll_sideways_and_dark_is_dark(open_page, scheme):
    tab = open_page(width=360, height=740, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    red = int(re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[0])
    assert red > 200 if scheme == "light" else red < 50
    tab.get_by_role("button", name="good").click()
    assert tab.evaluate("document.getElementById('viewer').scrollWidth") <= 360
    box = tab.locator(".picture").bounding_box()
    assert box["x"] >= 0
    assert 250 < box["width"] <= 360


def test_everything_that_can_be_used_has_a_name(open_page):
    tab = open_page()
    tab.get_by_role("button", name="good").click()
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, [role=img], [role=region], dialog, img")].filter((one) =>
          !(one.getAttribute("aria-label") || one.textContent.trim() || one.alt || one.labels?.length ||
            document.getElementById(one.getAttribute("aria-labelledby"))?.textContent)).map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert tab.locator("#announcement").get_attribute("aria-live") == "polite"


def opened_viewer(open_page, path, width, height):
    """A case of known place: axial, 2 mm to the slice's right, 1 mm down, of two classes that touch."""
    tab = open_page(path=path, width=width, height=height)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.get_by_role("button", name="good").click()
    assert tab.evaluate("document.getElementById('viewer').scrollWidth") <= width
    return tab


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """A page of cases whose geometry is known, with two classes."""
    path = tmp_path_factory.mktemp("placed") / "report.html"
    write(path, classes=CLASSES, spacing=(5.0, 1.0, 2.0), edges="RLAP", threshold=None)
    return path


@pytest.mark.parametrize(
    ("width", "height", "share"), [(390, 844, 0.2), (820, 390, 0.84), (1280, 720, 0.88), (1600, 900, 0.6)]
)
def test_the_picture_gets_the_room_there_is(open_page, placed, width, height, share):
    """A slice is twice as wide as high here: in an upright window its width is the limit, else its height is."""
    tab = opened_viewer(open_page, placed, width, height)
    tab.evaluate("document.querySelector('.picture').style.setProperty('--aspect', 1)")
    box = tab.locator(".picture").bounding_box()
    assert box["height"] >= share * height
    assert box["x"] >= 0
    assert box["y"] + box["height"] <= height
    assert tab.locator("#slice").bounding_box()["y"] < height


def test_sides_and_a_scale_bar_are_marked_where_the_files_tell_them(open_page, placed, page):
    tab = opened_viewer(open_page, placed, 1200, 900)
    assert [tab.locator(f".edge.{side}").inner_text() for side in ("left", "right", "top", "bottom")] == list("RLAP")
    assert tab.locator("#picture").get_attribute("alt").endswith("the patient's right at the left edge")
    picture, bar = (tab.locator(name).bounding_box() for name in (".picture", ".scale"))
    # 32 columns of 2 mm
    assert tab.locator(".scale").inner_text() == "1 cm"
    assert bar["width"] == pytest.approx(picture["width"] * 10 / 64, abs=1)
    tab.keyboard.press("+")
    tab.keyboard.press("+")
    # at 2.25, 2 cm no longer fit in 30 %
    assert tab.locator(".scale").bounding_box()["width"] == pytest.approx(2.25 * picture["width"] * 5 / 64, abs=1)
    unknown = open_page(path=page)
    unknown.get_by_role("button", name="good").click()
    assert not unknown.locator(".scale").is_visible()
    assert unknown.locator(".edge").all_inner_texts() == [""] * 4


def test_contrast_is_dragged_and_a_zoomed_picture_moved(open_page, page):
    tab = open_page()
    tab.get_by_role("button", name="good").click()
    box = tab.locator(".picture").bounding_box()

    def drag(right, down):
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.mouse.down()
        tab.mouse.move(box["x"] + (0.5 + right) * box["width"], box["y"] + (0.5 + down) * box["height"])
        tab.mouse.up()

    def of(name, key):
        return tab.locator(name).evaluate("(one, key) => getComputedStyle(one)[key]", key)

    # the darker stripes alone are sampled, 40 of 255, and brightened as far as any are
    first = of("#picture", "filter")
    brightness, contrast = map(float, re.findall(r"[\d.]+", first))
    assert (brightness, contrast) == (4, 1)
    drag(0.25, 0)
    assert float(re.findall(r"[\d.]+", of("#picture", "filter"))[0]) < brightness
    tab.keyboard.press("0")
    assert of("#picture", "filter") == first
    tab.keyboard.press("+")
    assert tab.locator(".canvas").bounding_box()["width"] == pytest.approx(1.5 * box["width"], abs=1)
    drag(0.125, 0)
    assert of("#picture", "filter") == first
    assert tab.locator(".canvas").bounding_box()["x"] == pytest.approx(box["x"] - box["width"] / 8, abs=1)
    drag(0.5, 0.5)  # not beyond its edge
    assert tab.locator(".canvas").bounding_box()["x"] == pytest.approx(box["x"], abs=1)
    tab.get_by_role("button", name="Reset").click()
    assert tab.locator(".canvas").bounding_box() == box


def test_the_worst_slice_has_the_most_wrong_pixels(open_page):
    tab = open_page()
    tab.get_by_role("button", name="good").click()
    tab.locator("#slice").fill("0")
    tab.locator("#slice").press("w")
    # slice 5 has twice the rows
    assert shown(tab)[0] == "Slice 5 of 6"


def test_of_two_classes_that_touch_both_are_seen_and_the_strip_has_their_colours(open_page, placed):
    tab = opened_viewer(open_page, placed, 1200, 900)
    fills = tab.locator("#areas rect.true").evaluate_all("all => all.map((one) => getComputedStyle(one).fill)")
    # the first class on all slices with tumour, the second on the fifth
    assert fills.count("rgb(230, 159, 0)") == 5
    assert fills.count("rgb(86, 180, 233)") == 1
    tab.locator("#show-predicted").uncheck()
    tab.wait_for_function("document.getElementById('picture').complete")
    picture = cv2.imdecode(np.frombuffer(tab.locator(".canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int)
    rows, columns = (length / SIZE for length in picture.shape[:2])
    # on both sides of the border between them, at row 12
    for row, colour in ((12 * rows - 1, (0, 159, 230)), (12 * rows + 1, (233, 180, 86))):
        assert np.abs(picture[round(row - 0.5), round(8 * columns)] - colour).max() < 40


def test_what_differs_from_the_defaults_stands_before_the_whole_config(tmp_path):
    page = write(tmp_path / "report.html", origin={"Command": "unet-jax --mode=evaluate", "Date": "2026-01-31"})
    parsed = Text(page)
    assert "unet-jax --mode=evaluate" in parsed.text
    assert parsed.text.index("2026-01-31") < parsed.text.index("Scores")
    before = page[page.index('id="changed"') : page.index('id="config"')]
    assert "config.seed" in before
    assert "instead of 0" in before
    assert "config.model.name" not in before
    assert "config.model.name" in page[page.index('id="config"') :]


def test_a_link_from_elsewhere_opens_its_case(open_page, page):
    tab = open_page()
    tab.goto(page.as_uri() + "#case=%3Cscript%3Ealert%281%29%3C%2Fscript%3E")
    assert tab.locator("#viewed").inner_text() == HOSTILE
    tab.keyboard.press("Escape")
    tab.goto(page.as_uri() + "#case=%E0%A4%A")
    assert not tab.locator("#viewer").is_visible()
