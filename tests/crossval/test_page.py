"""The pages of a cross-validation and of two side by side, as written and as Chromium shows them from disk."""

import re
from urllib.parse import unquote

import pytest
import scored_cases
from scored_cases import COUNTS

from unet_jax.crossval import page, pooled, side_by_side
from unet_jax.crossval.folds import Fold, folder_of
from unet_jax.metrics.summary import summarise

SIZES = [(390, 844), (820, 390), (1280, 720), (1600, 900)]


def cross_validation(workdir, missed=2):
    """Two folds of the three cases by hand, with reports; of p_2 in fold 1, so many pixels are missed."""
    found = []
    for number in (0, 1):
        rows = [
            row
            | {"case": f"{row['case']} <{number}>", "patient": f"{row['patient']}{number}"}
            | ({"false_negative": missed} if number and row["case"] == "p_2" else {})
            for row in scored_cases.whole_rows()
        ]
        metrics = summarise(rows, COUNTS) | {"threshold": 0.5, "checkpoint_step": 30, "minimum_voxels": 0}
        metrics |= {"tta": True, "tiles": False, "surface_tolerance": 2.0}
        folder = folder_of(workdir, number)
        report = folder / "evaluation" / "test" / "report.html"
        report.parent.mkdir(parents=True)
        report.write_text("<title>report</title>")
        found.append(Fold(number, folder, {"data.folds": 2}, metrics, rows, [{"seconds": 90.0}]))
    return pooled.pool(found)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a cross-validation with both pages."""
    base = tmp_path_factory.mktemp("two")
    results, rows = cross_validation(base / "ours", missed=0)
    theirs, their_rows = cross_validation(base / "their's")
    comparison = pooled.compare(results["dice_by_patient"], theirs["dice_by_patient"])
    results |= {"recipe": {"model.width": 32}, "against": {"workdir": "runs/other"} | comparison}
    page.write(base / "ours" / "crossval.html", results, rows, "against.html")
    side_by_side.write(base / "ours" / "against.html", comparison, rows, base / "their's", their_rows)
    return base / "ours"


def links(path):
    return [unquote(link) for link in re.findall(r'href="([^"]+)"', path.read_text()) if link != "data:,"]


def test_the_worst_cases_of_all_folds_lead_into_the_report_of_their_fold(written):
    text, found = (written / "crossval.html").read_text(), links(written / "crossval.html")
    reports = [f"fold{number}/evaluation/test/report.html" for number in (0, 1)]
    assert found[:3] == ["against.html", *reports]
    # a Dice of 0 in both
    assert found[3:5] == [f"{reports[0]}#case=p_2 <0>", f"{reports[1]}#case=p_2 <1>"]
    assert sorted(found[3:]) == sorted(
        f"{reports[n]}#case={case} <{n}>" for n in (0, 1) for case in ("p_1", "p_2", "q_1")
    )
    assert "p_2 &lt;0&gt;" in text
    assert "config.model.width" in text
    for line in ("4 patients", "2 of 2 folds", "1.5 minutes a fold"):
        assert line in text


def test_where_a_fold_has_no_report_its_cases_are_text(written, tmp_path):
    results, rows = cross_validation(tmp_path / "run")
    (folder_of(tmp_path / "run", 1) / "evaluation" / "test" / "report.html").unlink()
    page.write(tmp_path / "run" / "crossval.html", results, rows)
    assert all(link.startswith("fold0/") for link in links(tmp_path / "run" / "crossval.html"))


def test_two_side_by_side_pair_patients_those_that_differ_most_first(written):
    text = (written / "against.html").read_text()
    patients = re.findall(r'<th scope="row">(\w+)</th>', text)
    # of p1's pixels 4 are found and 1 is false; with 1 missed its Dice is 8/10, with 3 it is 8/12; all others are alike
    assert patients[0] == "p1"
    assert sorted(patients) == ["p0", "p1", "q0", "q1"]
    assert "+0.133" in text
    found = links(written / "against.html")
    assert found[:2] == [
        "fold1/evaluation/test/report.html#case=p_2 <1>",
        "../their's/fold1/evaluation/test/report.html#case=p_2 <1>",
    ]
    assert "1</dd>" in text[text.index("Better") : text.index("Worse")]


def test_both_pages_fit_any_window_and_follow_their_links(written, browser):
    context = browser.new_context(offline=True)
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    for name in ("crossval.html", "against.html"):
        tab.goto((written / name).as_uri())
        for width, height in SIZES:
            tab.set_viewport_size({"width": width, "height": height})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
    tab.locator("td a").nth(1).click()
    tab.wait_for_url("**/evaluation/test/report.html#case=*")
    assert tab.title() == "report"
    context.close()
    assert faults == []
