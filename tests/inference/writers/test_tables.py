import csv
import tracemalloc

import numpy as np
import pytest
from disks import small_disk

from unet_jax.data.case import Case
from unet_jax.errors import StorageError
from unet_jax.inference.writers import tables


def _case(spacing):
    mask = np.zeros((3, 6, 6), np.uint8)
    mask[0, :2, :3] = 1  # 6 pixels, and a corner of theirs touches the next slice's
    mask[1, 2, 3] = 1
    mask[1, 5, 5] = 1  # a component of its own
    return Case("anna", "A", np.zeros((3, 6, 6, 1), np.uint8), None, spacing), mask


@pytest.mark.parametrize(
    ("spacing", "volume", "areas", "units"),
    [((5.0, 0.5, 2.0), 8 * 5 / 1000, [6, 2, 0], ("ml", "mm2")), (None, 8, [6, 2, 0], ("pixels", "pixels"))],
)
def test_volume_areas_and_components(tmp_path, spacing, volume, areas, units):
    case, mask = _case(spacing)
    row, slices = tables.measure(case, mask)
    assert row == {
        "case": "anna",
        "patient": "A",
        "slices": 3,
        "slices_with_tumour": 2,
        "components": 2,
        "volume": pytest.approx(volume),
        "unit": units[0],
    }
    assert [one["area"] for one in slices] == pytest.approx(areas)
    assert [one["slice"] for one in slices] == [1, 2, 3]
    assert {one["unit"] for one in slices} == {units[1]}
    assert tables.measure_classes(case, mask, ()) == ([row], slices)
    with tables.Tables(tmp_path) as both:
        both.add([row], slices)
    for name, rows in ((tables.CASES, [row]), (tables.SLICES, slices)):
        with open(tmp_path / name, newline="") as file:
            assert list(csv.DictReader(file)) == [{key: str(value) for key, value in one.items()} for one in rows]


def test_each_of_several_classes_has_its_rows():
    case, mask = _case((5.0, 0.5, 2.0))
    rows, slices = tables.measure_classes(case, mask * np.uint8(2), ("edema", "core"))
    one, of_slices = tables.measure(case, mask)
    assert list(rows[1].items())[:3] == [("case", "anna"), ("patient", "A"), ("class", "core")]
    assert rows[1] == one | {"class": "core"}
    assert rows[0] | {"class": "edema", "volume": 0, "components": 0, "slices_with_tumour": 0} == rows[0]
    assert [row["class"] for row in slices] == ["edema"] * 3 + ["core"] * 3
    assert slices[3:] == [area | {"class": "core"} for area in of_slices]


def test_tables_are_in_place_when_all_rows_are_there_and_not_before(tmp_path):
    case, mask = _case(None)
    row, slices = tables.measure(case, mask)
    (tmp_path / tables.CASES).write_text("old")
    with tables.Tables(tmp_path) as both:
        for _ in range(3):
            both.add([row], slices)
        assert (tmp_path / tables.CASES).read_text() == "old"
        assert not (tmp_path / tables.SLICES).exists()
    assert len((tmp_path / tables.CASES).read_text().splitlines()) == 4
    assert len((tmp_path / tables.SLICES).read_text().splitlines()) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [tables.CASES, tables.SLICES]


@pytest.mark.parametrize("rows", [0, 2])
def test_an_error_leaves_the_old_tables(rows, tmp_path):
    case, mask = _case(None)
    row, slices = tables.measure(case, mask)
    (tmp_path / tables.CASES).write_text("old")

    def fail():
        with tables.Tables(tmp_path) as both:
            for _ in range(rows):
                both.add([row], slices)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_without_rows_there_are_no_tables(tmp_path):
    with tables.Tables(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_hold_the_rows(tmp_path):
    case, mask = _case(None)
    row, slices = tables.measure(case, mask)
    tracemalloc.start()
    try:
        with tables.Tables(tmp_path) as both:
            both.add([row], slices)
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(2000):
                both.add([row], slices)
            assert tracemalloc.get_traced_memory()[0] - before < 200_000  # a buffer or two
    finally:
        tracemalloc.stop()


def test_a_full_disk_is_named_and_the_old_tables_stay(tmp_path):
    case, mask = _case(None)
    row, slices = tables.measure(case, mask)

    def fill(disk):
        with tables.Tables(disk) as both:
            while True:
                both.add([row], slices)

    with small_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(StorageError, match=r"(cases|slices)\.csv: No space left"):
            fill(disk)
        assert list(disk.iterdir()) == []
