import json

import pytest

from benchmarks import results, table

AGAINST_TORCH = {
    "date": "2026-01-02T03:04:05+00:00",
    "machine": "Some CPU, 2 cores",
    "device": "cpu",
    "devices": 1,
    "versions": {"jax": "1.2"},
    "threads": 2,
    "peak_tflops": {"jax float32": 0.2, "torch float32": 0.25, "jax bfloat16": 0.1, "torch bfloat16": 0.1},
    "rows": [
        {
            "title": "cpu train step",
            "dtype": "float32",
            "gflop": 50.0,
            "median_ms": {"unet_jax": 400.0, "torch eager": 500.0},
            "against": {"torch eager": {"ratio": 1.25, "lower": 1.2, "upper": 1.3}},
            "peak_memory_gb": {"unet_jax": 1.5, "torch eager": 2.25},
        }
    ],
}


def test_the_floor_is_operations_over_the_faster_product():
    text = table.against_torch(AGAINST_TORCH)
    assert "| cpu train step | 50.0 | 200.0 | 400.0 | 500.0 | 1.25× (1.20 to 1.30) |" in text.splitlines()
    assert text.endswith("Peak memory of the device, GB, cpu train step: unet_jax 1.50, torch eager 2.25.")
    assert text.startswith("2026-01-02: Some CPU, 2 cores; jax 1.2. 2 threads each.")


def test_sections_are_filled_from_what_was_measured_and_the_others_say_how(tmp_path):
    results.write("against_torch_cpu_avx2", AGAINST_TORCH, tmp_path)
    page = "".join(f"before\n<!-- {name} -->\nold\n<!-- end of {name} -->\nafter\n" for name in table.SECTIONS)
    filled = table.fill(page, tmp_path)
    assert "old" not in filled
    assert filled.count("before\n") == filled.count("after\n") == len(table.SECTIONS)
    assert "1.25×" in filled
    assert "Not measured: no GPU was at hand." in filled
    assert table.fill(filled, tmp_path) == filled


def test_rows_of_the_same_machine_and_versions_are_kept_beside_new_ones(tmp_path):
    origin = {key: AGAINST_TORCH[key] for key in ("machine", "device", "versions")}
    for rows in (["a", "b"], ["b", "c"]):
        results.write_rows("x", origin, [{"title": title, "of": rows} for title in rows], tmp_path)
    kept = results.read("x", tmp_path)["rows"]
    assert [(row["title"], row["of"]) for row in kept] == [("a", ["a", "b"]), ("b", ["b", "c"]), ("c", ["b", "c"])]
    results.write_rows("x", origin | {"versions": {"jax": "1.3"}}, [{"title": "d"}], tmp_path)
    assert [row["title"] for row in results.read("x", tmp_path)["rows"]] == ["d"]


def test_the_page_is_what_the_results_say():
    page = table.PAGE.read_text()
    assert table.fill(page) == page, "run python -m benchmarks.table"


def test_a_page_without_a_section_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="0 sections <!-- against_torch_cpu_avx2 -->"):
        table.fill("nothing", tmp_path)


def test_results_hold_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write("x", {"a": float("nan")}, tmp_path)
    assert json.loads(results.write("y", {"a": 1}, tmp_path).read_text()) == results.read("y", tmp_path)
