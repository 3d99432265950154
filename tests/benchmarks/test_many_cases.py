import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import many_cases

PROJECT = Path(__file__).parents[2]


def test_a_few_hundred_cases_take_one_file_and_one_map(tmp_path):
    figures = many_cases.measure(300, 8, tmp_path)
    assert figures["open files"] == 1
    assert figures["maps"] == 1
    assert figures["GB decoded"] == pytest.approx(300 * 8 * 8 * 4 / 1e9, rel=2)


@pytest.mark.slow
def test_a_hundred_thousand_pictures_open_under_the_usual_limits():
    command = [sys.executable, "-m", "benchmarks.many_cases", "--cases=100000", "--size=16"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True, timeout=600).stdout
    print(printed)
    figures = {
        name: float(figure.replace(",", "")) for name, figure in (line.split(": ") for line in printed.splitlines())
    }
    assert figures["open files"] <= 50
    assert figures["maps"] <= 50
    assert figures["GB resident"] < 3
