import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unet_jax.errors import InputError
from unet_jax.runtime.command_line import run_and_report

# Prints what ASCII lacks, and a path with bytes that are not UTF-8, to stdout and as an error.
SPEAKING = """
import sys
from unet_jax.errors import InputError
from unet_jax.runtime.command_line import run_and_report

def work():
    print("64² → läufe", sys.argv[1])
    raise InputError(f"{sys.argv[1]}: läufe")

code = run_and_report(work)
print(sys.stdout.errors)
sys.exit(code)
"""


def _raising(error):
    def run():
        raise error

    return run


def test_the_line_is_printed(capsys):
    assert run_and_report(lambda: "done.") == 0
    assert capsys.readouterr() == ("done.\n", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a: is wrong."), 2, "error: a: is wrong."),
        (
            OSError(errno.ENOSPC, "No space left on device", "b"),
            5,
            "error: b: No space left on device: free some ",
        ),
    ],
)
def test_what_is_no_bug_has_one_line_and_a_code(error, code, line, capsys):
    assert run_and_report(_raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_a_bug_is_left_to_be_seen():
    with pytest.raises(FileNotFoundError):
        run_and_report(_raising(FileNotFoundError(errno.ENOENT, "No such file or directory", "c")))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_whatever_stdouts_encoding_every_text_is_printed(encoding):
    done = subprocess.run(
        [sys.executable, "-c", SPEAKING, b"J\xfcrg"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    shown = "64² → läufe J\\udcfcrg\nstrict\n".encode(encoding, "backslashreplace")
    assert done.stdout == shown
    assert done.stderr == "error: J\\udcfcrg: läufe\n".encode(encoding, "backslashreplace")
    assert done.returncode == 2
