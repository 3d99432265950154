import errno

import pytest

from unet_jax.errors import InputError
from unet_jax.runtime.command_line import answered


def _raising(error):
    def run():
        raise error

    return run


def test_the_line_is_printed(capsys):
    assert answered(lambda: "done.") == 0
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
    assert answered(_raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_a_bug_is_left_to_be_seen():
    with pytest.raises(FileNotFoundError):
        answered(_raising(FileNotFoundError(errno.ENOENT, "No such file or directory", "c")))
