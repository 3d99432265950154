"""The CPU at hand: how long its vectors are, and code for it."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jaxlib
import llvmlite.binding as llvm
from llvmlite import ir

from unet_jax.files import write_bytes

# Numbers of float32 in a vector, and vectors that registers hold.
_VECTORS = {"avx512f": (16, 32), "avx2": (8, 16), "neon": (4, 32)}

_engines = []  # what is compiled lives as long as they do


@functools.cache
def vectors() -> tuple[int, int] | None:
    """Lanes of a vector of float32, and vectors that registers hold; None on a CPU that this was not written for."""
    features = _features()
    suited = [sizes for name, sizes in _VECTORS.items() if features.get(name)]
    return suited[0] if suited else None


def _features() -> dict[str, bool]:
    """Of the CPU, by LLVM's names; without AVX-512 where XLA is told so too, by XLA_FLAGS=--xla_cpu_max_isa=AVX2."""
    features = llvm.get_host_cpu_features()
    is_limited = "--xla_cpu_max_isa=AVX2" in os.environ.get("XLA_FLAGS", "").split()
    is_left_out = [name for name in features if is_limited and name.startswith("avx512")]
    return {**features, **dict.fromkeys(is_left_out, False)}


def compiled(name: str, write: Callable[[ir.Module], None]) -> int:
    """Address of the function of this name, which `write` writes, in code for the CPU at hand.

    The code is kept beside jax's compiled programs, and found there by what it depends on.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    folder = jax.config.jax_compilation_cache_dir
    path = Path(folder) / f"{name}-{_made_of()}.o" if folder else None
    code = _kept(path) if path else None
    if code is None:
        code = _compile(write)
        if path:
            # Where there is no room, or nobody may write, the next process compiles again, as with jax's programs.
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, hashlib.sha256(code).digest() + code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(name)


def _compile(write: Callable[[ir.Module], None]) -> bytes:
    module = ir.Module()
    write(module)
    parsed = llvm.parse_assembly(str(module))
    target = _target()
    # Loops are written as they shall be.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(parsed, passes)
    return target.emit_object(parsed)


def _kept(path: Path) -> bytes | None:
    """The code in a file; None if there is no such file, or if it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:32], data[32:]
    return code if hashlib.sha256(code).digest() == digest else None


@functools.cache
def _made_of() -> str:
    """A digest of what the code depends on: this package's sources, XLA's interface, the compiler and the CPU."""
    parts = [llvm.get_default_triple(), llvm.get_host_cpu_name(), _flat_features()]
    parts += [str(llvm.llvm_version_info), jaxlib.__version__]
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), *sources])).hexdigest()[:32]


def _target() -> llvm.TargetMachine:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_flat_features(), opt=2, jit=True
    )


def _flat_features() -> str:
    return ",".join(f"{'+' if there else '-'}{name}" for name, there in sorted(_features().items()))
