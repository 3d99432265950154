"""The CPU at hand: how long its vectors are, and code for it."""

import functools

import llvmlite.binding as llvm
from llvmlite import ir

from unet_jax.runtime.cpu_devices import cores

# Numbers of float32 in a vector, and vectors that registers hold.
_VECTORS = {"avx512f": (16, 32), "avx2": (8, 16), "neon": (4, 32)}

__all__ = ["compiled", "cores", "vectors"]

_engines = []  # what is compiled lives as long as they do


@functools.cache
def vectors() -> tuple[int, int] | None:
    """Lanes of a vector of float32, and vectors that registers hold; None on a CPU that this was not written for."""
    features = llvm.get_host_cpu_features()
    suited = [sizes for name, sizes in _VECTORS.items() if features.get(name)]
    return suited[0] if suited else None


def compiled(module: ir.Module, name: str) -> int:
    """Address of the function of this name, compiled for the CPU at hand."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    # Loops are written as they shall be.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, target)
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(name)
