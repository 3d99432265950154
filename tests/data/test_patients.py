import pytest

from unet_jax.data import patients
from unet_jax.data.patients import Place
from unet_jax.errors import InputError


def test_without_pattern_or_table_each_name_is_a_patient():
    grouping = patients.load(None, None)
    assert grouping.place("a/b_1") == Place("a/b_1", "a/b_1", None)


def test_a_pattern_tells_patient_scan_and_slice():
    grouping = patients.load(r"(?P<patient>p[0-9]+)_(t[12])/s(?P<slice>[0-9]+)", None)
    first, second, other = (grouping.place(name) for name in ("p1_t1/s2", "p1_t1/s010", "p1_t2/s2"))
    assert (first.patient, first.number, second.number) == ("p1", 2, 10)
    assert first.scan == second.scan != other.scan
    assert other.patient == "p1"
    assert patients.load(r"(?P<patient>[^_]+)_.*", None).place("p1_7") == Place("p1", "p1_7", None)


def test_a_csv_tells_the_same(tmp_path):
    path = tmp_path / "who.csv"
    path.write_text("file,patient,slice\na.png,anna,1\nb/c.nii.gz,anna,2\nv1.5,bert,\n")
    grouping = patients.load(None, path)
    assert grouping.place("a") == Place("anna", "anna", 1)
    assert grouping.place("b/c") == Place("anna", "anna", 2)
    assert grouping.place("v1.5") == Place("bert", "v1.5", None)
    with pytest.raises(InputError, match=r"^d: config\.data\.patient_csv=.*has no line for this file"):
        grouping.place("d")


def test_all_faulty_lines_of_a_csv_are_listed(tmp_path):
    path = tmp_path / "who.csv"
    path.write_text("file,patient,slice\na,anna,1\na.png,anna,2\nb,,3\nc,anna,three\n")
    with pytest.raises(InputError) as caught:
        patients.load(None, path)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [f"{path}, line {n}" for n in (3, 4, 5)]


@pytest.mark.parametrize("text", ["", "file,name\na,b\n", None])
def test_a_csv_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "who.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"config\.data\.patient_csv=.*who\.csv: (its first line|cannot be read)"):
        patients.load(None, path)


@pytest.mark.parametrize(
    ("pattern", "complaint"), [("(", "is not a regular expression"), ("([^_]+)_.*", r"needs a group for the patient")]
)
def test_a_pattern_that_cannot_be_used_is_refused(pattern, complaint):
    with pytest.raises(InputError, match=rf"config\.data\.patient_pattern=.*{complaint}"):
        patients.load(pattern, None)


def test_a_name_that_does_not_match_and_two_ways_at_once_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^x: config\.data\.patient_pattern=.* does not match"):
        patients.load("(?P<patient>p[0-9])", None).place("x")
    with pytest.raises(InputError, match="both set"):
        patients.load("(?P<patient>.)", tmp_path / "who.csv")


def test_the_description_follows_what_decides(tmp_path):
    path = tmp_path / "who.csv"
    path.write_text("file,patient\na,anna\n")
    one = patients.load(None, path).describe()
    path.write_text("file,patient\na,bert\n")
    assert len({one, patients.load(None, path).describe(), patients.load("(?P<patient>.)", None).describe()}) == 3
