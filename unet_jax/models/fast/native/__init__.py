"""Convolutions on a CPU in code of its own, which LLVM compiles for the CPU at hand when it is first needed.

XLA's convolutions leave a CPU's vectors idle where channels are few, in volumes, and in gradients of kernels; see
docs/performance.md. `convolution` and `kernel_gradient` write the loops, of `block`, the input that both read, `sums`,
what both keep in registers, and `code`, the vocabulary. `tiles` and `cache` choose sizes, `machine` compiles, `frame`
is how XLA calls what was compiled, and `calls` how jax does.
"""
