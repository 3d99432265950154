"""How XLA is told to lay images out in memory: an option for the compiler, where its own choice is the slower one."""

import jax

# 3-D convolutions with the channels last. Left to itself, XLA puts them first, although NVIDIA's kernels for bfloat16
# have them last: cuDNN then copies each input and output from one order to the other, a quarter of a training step.
CHANNELS_LAST = {"xla_gpu_force_conv_nhwc": True}


def compiler_options(rank: int, backend: str | None = None) -> dict[str, bool] | None:
    """The `compiler_options` for `jax.jit` of a program with a network of 2 or 3 axes; None where XLA chooses well.

    jax takes them for whole programs alone: what is compiled with them cannot be part of another program.

    Args:
        rank: 2 or 3.
        backend: that will run it, by jax's name; None for the one at hand. A CPU's compiler is given nothing.
    """
    return CHANNELS_LAST if rank == 3 and (backend or jax.default_backend()) == "gpu" else None
