import ctypes

import jax
import pytest
from llvmlite import ir

from unet_jax.models.fast.native import machine

NAME = "seven_times"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
    yield tmp_path / "compiled"
    jax.config.update("jax_compilation_cache_dir", before)


def seven_times(module: ir.Module) -> None:
    number = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(number, [number]), NAME)
    b = ir.IRBuilder(function.append_basic_block())
    b.ret(b.mul(function.args[0], ir.Constant(number, 7)))


def never(module: ir.Module) -> None:
    raise AssertionError("it was compiled before")


def called(address: int, value: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(value)


def test_code_is_kept_and_found_again(folder):
    assert called(machine.compiled(NAME, seven_times), 6) == 42
    [kept] = folder.iterdir()
    assert called(machine.compiled(NAME, never), 5) == 35
    assert [kept] == list(folder.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:90] + b"?" + data[91:], lambda data: b""]
)
def test_damaged_code_is_compiled_again(folder, damage):
    machine.compiled(NAME, seven_times)
    [kept] = folder.iterdir()
    data = kept.read_bytes()
    kept.write_bytes(damage(data))
    assert called(machine.compiled(NAME, seven_times), 6) == 42
    assert kept.read_bytes() == data


def test_other_code_is_not_taken_for_it(folder, monkeypatch):
    machine.compiled(NAME, seven_times)
    monkeypatch.setattr(machine, "_made_of", lambda: "another compiler")
    with pytest.raises(AssertionError, match="compiled before"):
        machine.compiled(NAME, never)


def test_without_a_folder_or_a_place_to_write_it_is_compiled_all_the_same(folder):
    folder.write_text("a file where the folder should be")
    assert called(machine.compiled(NAME, seven_times), 6) == 42
    jax.config.update("jax_compilation_cache_dir", None)
    assert called(machine.compiled(NAME, seven_times), 7) == 49


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f": True, "avx2": True}, (16, 32)),
        ({"avx512f": False, "avx2": True}, (8, 16)),
        ({"neon": True}, (4, 32)),
        ({"sse2": True}, None),
    ],
)
def test_vectors_are_the_widest_that_the_cpu_has(features, expected, monkeypatch):
    monkeypatch.setattr(machine.llvm, "get_host_cpu_features", lambda: features)
    assert machine.vectors.__wrapped__() == expected


def test_vectors_are_no_longer_than_xlas_may_be(monkeypatch):
    monkeypatch.setattr(
        machine.llvm, "get_host_cpu_features", lambda: {"avx512f": True, "avx512vl": True, "avx2": True}
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2 --xla_backend_optimization_level=0")
    assert machine.vectors.__wrapped__() == (8, 16)
    assert machine._flat_features() == "+avx2,-avx512f,-avx512vl"
