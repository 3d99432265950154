import os

import pytest

from unet_jax.data import faults
from unet_jax.data.faults import Fault, FaultsError, lines_of, summary
from unet_jax.errors import InputError


def test_a_fault_is_a_line_that_knows_its_kind():
    fault = Fault("a\nb.png", "is wrong: mend it.")
    assert fault == "a\\nb.png: is wrong: mend it."
    assert (fault.where, fault.kind) == ("a\\nb.png", "is wrong: mend it.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("has 3 channels of uint8: mend it.", "has 14 channels of uint8: mend it."),
        ("the file is damaged (6 bytes, x): restore it.", "the file is damaged (901 bytes, y z): restore it."),
        ("the mask has the values 3, 4, 7 beside 0 and 1.", "the mask has the values 9 beside 0 and 1."),
        ("is called as masks/anna_1.png is.", "is called as bert.png is."),
    ],
)
def test_numbers_and_file_names_make_no_other_kind(one, other):
    assert Fault("a", one).kind == Fault("b", other).kind


def test_three_files_of_a_kind_have_a_line_each_and_more_are_counted(tmp_path):
    few = [Fault(name, "is wrong.") for name in "abc"]
    assert summary(few, tmp_path / "faults.txt") == "a: is wrong.\nb: is wrong.\nc: is wrong."
    assert not (tmp_path / "faults.txt").exists()
    many = [Fault(f"{number:04d}.png", "is wrong.") for number in range(1000)]
    lines = summary([*many[:500], Fault("x", "is missing."), *many[500:]], tmp_path / "faults.txt").splitlines()
    assert lines == [
        f"0000.png: is wrong. Found 1,000 times, also in 0001.png, 0002.png, …; all are listed in "
        f"{tmp_path}/faults.txt.",
        "x: is missing.",
    ]
    listed = (tmp_path / "faults.txt").read_text().splitlines()
    assert len(listed) == 1001
    assert listed[500] == "x: is missing."


def test_where_the_list_cannot_be_written_it_is_not_named(tmp_path):
    (tmp_path / "file").write_text("")
    many = [Fault(str(number), "is wrong.") for number in range(4)]
    expected = "0: is wrong. Found 4 times, also in 1, 2, …."
    assert summary(many, tmp_path / "file" / "faults.txt") == summary(many) == expected


def test_very_many_kinds_end_in_a_count():
    lines = summary([f"{word}: {word * 3}" for word in (f"w{'abcdefgh'[n % 8] * (n + 1)}x" for n in range(90))])
    assert len(lines.splitlines()) == faults.LINES + 1
    assert lines.endswith("… and 50 more lines.")


def test_plain_lines_count_by_what_follows_the_name():
    lines = [f"masks/{number}.png: the file is empty ({number} bytes): restore it." for number in range(5)]
    assert summary(lines).count("\n") == 0
    assert summary(["no colon", "no colon"]).splitlines() == ["no colon: ", "no colon: "]


def test_an_error_gives_its_faults_back_with_their_kinds():
    several = [Fault("a", "is wrong.", "k"), "b: is wrong."]
    assert lines_of(FaultsError(several)) == several
    assert lines_of(FaultsError(several))[0].kind == "k"
    assert str(FaultsError(several)) == os.linesep.join(several)
    assert lines_of(InputError("a: x\nb: y")) == ["a: x", "b: y"]
    assert lines_of(InputError(several[0]))[0].kind == "k"
