"""Compiled programs on disk, so that the next run need not compile them again."""

import contextlib
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from unet_jax.runtime import caches

# Seconds of compiling from which a program is kept; below that, loading takes about as long as compiling.
WORTH_KEEPING = 0.1


def use(folder: str | None) -> None:
    """Keeps what is compiled from now on in `folder`, and loads from there what an earlier process compiled.

    None keeps nothing. A folder that the environment's JAX_COMPILATION_CACHE_DIR names stands. The programs in the
    folder are executed as they are, so nobody else should be able to write there.
    """
    if folder is None or jax.config.jax_compilation_cache_dir is not None:
        return
    jax.config.update("jax_compilation_cache_dir", str(caches.place_of(folder).absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)


@contextlib.contextmanager
def replaced_by(folder: str) -> Iterator[None]:
    """Within the block, `folder` is the cache, in the place of the one in use, and keeps every program."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    try:
        for name, value in zip(names, (folder, 0.0), strict=True):
            jax.config.update(name, value)
        reset_cache()
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)
        reset_cache()
