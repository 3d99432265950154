import pytest

from benchmarks import growth


@pytest.mark.parametrize(("kind", "cases"), [("pictures", 120), ("volumes", 3)])
def test_a_growing_data_set_is_started_with_scored_and_reported(kind, cases, tmp_path):
    growth.make(tmp_path / "data", kind, 120, 16)
    assert len(list((tmp_path / "data" / "images").iterdir())) == cases
    cold = growth.start(tmp_path, score=False)
    warm = growth.start(tmp_path, score=True)
    assert list(cold) == ["start", "MB resident", "open files"]
    assert list(warm) == ["start", "split", "score", "summarise", "report", "MB resident", "open files"]
    assert all(figure >= 0 for figure in warm.values())
    written = {path.name for path in (tmp_path / "report").iterdir()}
    pages = {"report.html", "cases-0002.html", "cases-search.html"} if cases > 100 else {"report.html"}
    assert written == {"metrics.json", "cases.csv"} | pages


def test_columns_are_in_order_and_the_last_two_are_compared():
    found = {"10000": {"start, s": 20.0, "pages": 100}, "1000": {"start, s": 3.0}}
    assert growth.table(found, "pictures").splitlines() == [
        "| pictures, slices | 1,000 | 10,000 | × from 1,000 |",
        "|---|---|---|---|",
        "| start, s | 3 | 20 | 6.7 |",
        "| pages |  | 100 |  |",
    ]
