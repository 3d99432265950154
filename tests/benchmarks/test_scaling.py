import dataclasses
import math

import pytest

from benchmarks import less_memory, scaling
from benchmarks.scaling import CLUSTER, INFINIBAND, LARGE, NVLINK, SLICES, SMALL, Link

# 100 bytes a second, of which half to either neighbour, and no latency.
SLOW = Link("slow", 100.0, 50.0, 0.0)


@pytest.mark.parametrize(("devices", "seconds"), [(1, 0.0), (2, 1.0), (4, 1.5), (512, 2 * 511 / 512)])
def test_a_ring_sends_twice_all_but_a_devices_own_share(devices, seconds):
    assert scaling.all_reduce_seconds(100.0, devices, SLOW) == pytest.approx(seconds)


def test_a_tree_waits_twice_a_level():
    assert scaling.all_reduce_seconds(0.0, 8, dataclasses.replace(SLOW, latency=0.25)) == 2 * 3 * 0.25


def test_hosts_sum_within_first_and_then_a_share_a_device():
    size = 8e9
    within, between = (14 / 8 * size / 450e9 + 6 * 3e-6), (2 * 7 / 8 * size / 8 / 50e9 + 6 * 10e-6)
    assert scaling.all_reduce_seconds(size, 8, CLUSTER) == pytest.approx(within)
    assert scaling.all_reduce_seconds(size, 64, CLUSTER) == pytest.approx(within + between)
    assert scaling.all_reduce_seconds(size, 8, NVLINK) == pytest.approx(within)


def test_weak_scaling_by_hand():
    """7,782,913 parameters (docs/models.md) of 4 bytes, 14 eighths of them at 50 GB/s, and 6 waits of 10 µs."""
    added = 14 / 8 * 4 * 7_782_913 / 50e9 + 6e-5
    assert scaling.weak_scaling(SLICES, 8, INFINIBAND) == pytest.approx(17.2e-3 / (17.2e-3 + added))
    assert scaling.weak_scaling(SLICES, 1, INFINIBAND) == 1


def test_planes_of_two_stages_by_hand():
    """As many and as large as XLA exchanges for the same network: tests/training/test_slabs.py."""
    found = [(count, values) for count, values in scaling.planes((4, 8), (16, 8, 8), 2, blocks=1) if count]
    first, strided, joined = [(4, 2 * 64 * 1)], [(2, 2 * 64 * 4), (1, 2 * 16 * 8)], [(4, 2 * 64 * 8), (2, 2 * 64 * 4)]
    assert sorted(found) == sorted(first + strided + joined)


def test_slabs_add_what_is_sent_to_the_busier_of_device_and_neighbour():
    sent = 2 * sum(count * values for count, values in scaling.planes((32, 64, 128, 256), (40, 56, 40), 7))
    assert scaling.exchange_seconds(SMALL, 8, SLOW) == pytest.approx(sent / 100)
    assert scaling.exchange_seconds(SMALL, 8, dataclasses.replace(SLOW, neighbour=10.0)) == pytest.approx(sent / 20)
    waiting = scaling.exchange_seconds(LARGE, 8, Link("late", math.inf, math.inf, 1.0))
    # 115 exchanges, and two sums for each of 22 normalisations and two more, of three levels forth and back
    assert waiting == 115 + (2 * 22 + 2) * 6


def test_planned_memory_is_within_a_twentieth_of_what_xla_planned():
    for recipe in (SMALL, LARGE):
        assert scaling.planned_bytes(recipe) / 1e9 == pytest.approx(recipe.gigabytes, rel=0.05)


def test_the_page_holds_the_tables_that_the_script_makes():
    page = scaling.PAGE.read_text()
    assert scaling.fill(page) == page


def test_memory_and_price_are_shares_of_the_first_row():
    rows = {
        "all": {"megabytes": 200.0, "gflop": 1.0, "cpu_seconds": 2.0},
        "less": {"megabytes": 50.0, "gflop": 2.0, "cpu_seconds": 3.0},
    }
    found = {"features": [4, 8], "patch": [8, 8, 8], "batch": 2, "jax": "1", "rows": rows}
    assert less_memory.table(found).splitlines()[-1] == "| less | 50 | 0.25 | 1.50 |"
