import pytest

from unet_jax.runtime import environment

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU: 9\nflags\t\t: fpu {}\n\nprocessor\t: 1\nmodel name\t: Other\n"


@pytest.mark.parametrize(
    ("flags", "machine"),
    [("avx avx2 avx512f", "Some CPU: 9 with AVX-512"), ("avx avx2", "Some CPU: 9 with AVX2"), ("avx", "Some CPU: 9")],
)
def test_the_machine_is_told_by_its_widest_vectors(flags, machine, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    environment.CPUINFO.write_text(CPUINFO.format(flags))
    assert environment.describe(())["machine"].rpartition(", ")[0] == machine


def test_where_linux_says_nothing_there_is_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "missing")
    assert environment.vectors() == ""
    assert environment.describe(())["machine"].rpartition(", ")[0]
