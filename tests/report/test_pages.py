"""Reports of more than a hundred cases: which case is on which page, and the way from one to another."""

import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from scored_cases import SCORED_HOW, stages

from unet_jax.data.case import Case
from unet_jax.metrics import cases as scoring
from unet_jax.metrics.summary import summarise
from unet_jax.report import case_view, charts, page, pages, search


@dataclasses.dataclass
class Report:
    """A report as it is written: its files, and the rows it is of."""

    files: dict[str, str]
    rows: list


def written(folder, count, pictured=2):
    """A report of cases of which number n finds n of `count` pixels."""
    truth = np.ones((1, 1, count), np.uint8)
    cases = [Case(f"case {n}", f"case {n}", np.zeros((1, 1, count, 1), np.uint8), truth) for n in range(count)]
    masks = [(np.arange(count) < n).astype(np.uint8).reshape(1, 1, -1) for n in range(count)]
    numbers = np.zeros(1, np.int32)
    scores = scoring.score_cases(
        cases,
        [(n, numbers, mask) for n, mask in enumerate(masks)],
        tolerance=2.0,
        stages=stages(),
    )["as_predicted"]
    page.write(
        folder / pages.FIRST,
        title="run",
        summary=SCORED_HOW | summarise(scores.rows, scores.counts),
        rows=scores.rows,
        epochs=[],
        config={"seed": 7},
        sequences=("FLAIR",),
        first_sequence=0,
        pictures=case_view.within_budget(((cases[n], numbers, masks[n]) for n in range(pictured)), 10**7),
    )
    return Report({path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}, scores.rows)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return written(tmp_path_factory.mktemp("report"), 230)


class Parsed(HTMLParser):
    """The names in a page's table, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self.sections, self._in_name = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._in_name = self._in_name or (
            tag == "th" and attributes.get("scope") == "row" and "data-value" in attributes
        )
        if tag == "a" and attributes["href"].endswith(".html"):
            self.links.append((attributes.get("rel"), attributes["href"], attributes.get("aria-current")))
        if tag == "section":
            self.sections.append(attributes["aria-labelledby"])

    def handle_endtag(self, tag):
        self._in_name = self._in_name and tag != "th"

    def handle_data(self, data):
        if self._in_name:
            self.names.append(data)


def test_up_to_a_hundred_cases_are_one_page_without_links(tmp_path):
    found = written(tmp_path, 100)
    assert list(found.files) == [pages.FIRST]
    assert Parsed(found.files[pages.FIRST]).links == []
    assert "<nav" not in found.files[pages.FIRST]
    assert 'role="search"' not in found.files[pages.FIRST].partition("<body>")[2]


def test_every_case_is_on_one_page_and_the_worst_are_on_the_first(report):
    assert list(report.files) == ["cases-0002.html", "cases-0003.html", "cases-search.html", "report.html"]
    found = {name: Parsed(text).names for name, text in report.files.items()}
    assert found["report.html"] == [f"case {n}" for n in range(100)]
    assert found["cases-0002.html"] == [f"case {n}" for n in range(100, 200)]
    assert found["cases-0003.html"] == [f"case {n}" for n in range(200, 230)]


def test_each_page_leads_to_its_neighbours_and_by_the_first_to_all(report):
    files = pages.names(230)
    assert files == ["report.html", "cases-0002.html", "cases-0003.html"]
    for number, name in enumerate(files):
        links = Parsed(report.files[name]).links
        steps = {rel: target for rel, target, _ in links if rel}
        assert steps.get("prev") == (files[number - 1] if number else None)
        assert steps.get("next") == (files[number + 1] if number < 2 else None)
        listed = [(target, current) for rel, target, current in links if not rel]
        assert listed == (
            [(other, None if place else "page") for place, other in enumerate(files)] if number == 0 else []
        )
        assert ('href="report.html#all-pages"' in report.files[name]) == (number > 0)
    assert '<details id="all-pages"' in report.files["report.html"]


def test_a_case_on_another_page_is_found_by_a_part_of_its_name(browser, tmp_path):
    """From the disk, with the keyboard; one has pictures and is opened, the other has scores and is scrolled to."""
    written(tmp_path, 230)
    faults = []
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))

    def fits():
        for width, height in ((1600, 900), (1280, 720), (820, 390), (390, 844)):
            tab.set_viewport_size({"width": width, "height": height})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width

    tab.goto((tmp_path / "cases-0003.html").as_uri())
    fits()
    tab.get_by_role("searchbox", name="Find a case").press_sequentially("CASE 1\n")
    tab.wait_for_url("**/cases-search.html?q=CASE+1")
    # 1, 10 to 19, 100 to 199
    assert tab.get_by_role("status").inner_text() == "111 of 230 cases."
    tab.get_by_role("searchbox").fill("case 150")
    assert tab.get_by_role("status").inner_text() == "1 of 230 cases."
    assert tab.locator("#found").inner_text() == "case 150 Dice 0.789"  # 2 * 150 / (150 + 230)
    fits()
    tab.get_by_role("link", name="case 150").click()
    tab.wait_for_url("**/cases-0002.html#case=case%20150")
    assert tab.locator("tr.found th").inner_text() == "case 150"
    assert 0 < tab.locator("tr.found").bounding_box()["y"] < 844
    tab.go_back()
    tab.get_by_role("searchbox").fill("case 1")
    tab.locator("#found").get_by_role("link", name="case 1", exact=True).click()
    assert tab.locator("#viewed").inner_text() == "case 1"
    context.close()
    assert faults == []


def test_names_on_the_page_that_finds_them_stay_text():
    rows = [{"case": "</script><script>alert(1)</script>", "patient": "a<b", "dice": None}] * 101
    text = search.page("run", rows)
    assert text.count("</script>") == 2
    content = text.partition('id="everyone">')[2].partition("</script>")[0]
    assert json.loads(content)["cases"][0] == [rows[0]["case"], None, "a<b"]


def test_scores_of_the_run_stand_on_the_first_page_alone(report):
    assert Parsed(report.files["report.html"]).sections == ["scores", "cases", "training", "run"]
    assert Parsed(report.files["cases-0002.html"]).sections == ["cases"]


def test_pictures_are_on_the_page_of_their_case(report):
    assert report.files["report.html"].count('type="application/json"') == 2
    assert report.files["cases-0002.html"].count('type="application/json"') == 0
    assert "100 of 100 cases without pictures here" in report.files["cases-0002.html"]


def test_a_page_says_how_many_there_are(report):
    assert "Cases 201 to 230 of 230, on page 3 of 3." in report.files["cases-0003.html"]
    assert "All 3 pages, by Dice" in report.files["report.html"]


def test_no_page_grows_with_the_number_of_cases_but_the_first_by_its_list_of_pages():
    rows = [{"dice": n / 100_000} for n in range(100_000)]
    assert len(pages.names(100_000)) == 1000
    assert [len(list(pages.navigation(page, rows)[0].iter("a"))) for page in (0, 500, 999)] == [1001, 3, 2]
    assert [len(pages.rows_of(number, rows)) for number in (0, 999, 1000)] == [100, 100, 0]


def test_the_dice_of_many_patients_is_drawn_in_bars_that_count_all():
    rng = np.random.default_rng(0)
    values = [*rng.random(5000), 0.0, 1.0]
    scores = {str(number): float(value) for number, value in enumerate(values)}
    spread = {"mean": 0.5, "median": 0.5, "ci95": [0.4, 0.6]}
    drawn = charts.dice_strip(scores, spread)
    bars = [element for element in drawn.iter("rect") if element.get("class") == "bar"]
    assert len(bars) == 50
    assert not list(drawn.iter("circle"))
    counts = [int(bar.find("title").text.split(": ")[1].replace(",", "")) for bar in bars]
    expected = np.histogram(values, 50, (0, 1))[0]
    np.testing.assert_array_equal(counts, expected)
    assert "Dice of 5,002 patients" in drawn.get("aria-label")
