from benchmarks import growth


def test_a_growing_data_set_is_started_with_scored_and_reported(tmp_path):
    growth.make(tmp_path / "data", 120, 16)
    cold = growth.start(tmp_path, score=False)
    warm = growth.start(tmp_path, score=True)
    assert list(cold) == ["start", "MB resident", "open files"]
    assert list(warm) == ["start", "split", "score", "summarise", "report", "MB resident", "open files"]
    assert all(figure >= 0 for figure in warm.values())
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"metrics.json", "cases.csv", "report.html", "cases-0002.html", "cases-search.html"}
