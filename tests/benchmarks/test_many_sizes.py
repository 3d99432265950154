from benchmarks import many_sizes


def test_sizes_differ_and_have_as_many_pixels_as_the_one():
    found = many_sizes.sizes(1000)
    assert len(set(found)) == 1000
    assert all(128 <= length < 384 for size in found for length in size)
    pixels = sum(rows * columns for rows, columns in found)
    assert abs(pixels / (1000 * 256 * 256) - 1) < 0.02


def test_the_table_has_the_median_of_the_ratios():
    seconds = {"seconds": [10.0, 20.0, 11.0], "cpu_seconds": [8.0, 8.0, 8.0]}
    many = {"seconds": [12.0, 22.0, 11.0], "cpu_seconds": [8.8, 8.0, 9.6]}
    ratios = {unit: [a / b for a, b in zip(many[unit], seconds[unit], strict=True)] for unit in seconds}
    rows = many_sizes.table({"pictures": 1000, "one": seconds, "many": many, "ratios": ratios}).splitlines()
    assert rows[2] == "| seconds | 11.0 | 12.0 | 1.10 (1.00 to 1.20) |"
    assert rows[3] == "| seconds of processor | 8.0 | 8.8 | 1.10 (1.00 to 1.20) |"
