import sys

import pytest

from benchmarks import watched

# Holds 100 MB of its own and 50 MB of a file's pages, with four files open, and prints a line.
HOLDING = """
import mmap, sys, time
files = [open(sys.argv[1], "rb") for _ in range(4)]
pages = mmap.mmap(files[0].fileno(), 0, access=mmap.ACCESS_READ)
seen = sum(pages[place] for place in range(0, len(pages), 4096))
held = b"x" * 100_000_000 if len(sys.argv) == 3 else b""
print(len(held))
time.sleep(0.3)
"""


def test_memory_and_files_are_those_at_most(tmp_path):
    path = tmp_path / "pages"
    path.write_bytes(bytes(50_000_000))
    command = [sys.executable, "-c", HOLDING, str(path)]
    without, found = watched.run(command), watched.run([*command, "held"])
    assert (without.output, found.output) == ("0\n", "100000000\n")
    assert found.resident - without.resident == pytest.approx(100, abs=5)
    assert found.own - without.own == pytest.approx(100, abs=5)
    assert without.resident - without.own > 50
    assert found.open_files >= 7  # with stdin, stdout and stderr
    assert found.seconds > 0.3


def test_a_command_that_fails_is_told():
    with pytest.raises(SystemExit, match="ended with code 3"):
        watched.run([sys.executable, "-c", "import sys; sys.exit(3)"])
