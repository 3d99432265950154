import jax
import jax.numpy as jnp
import pytest

from unet_jax.runtime import compilation_cache


@pytest.fixture
def no_folder():
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


@pytest.mark.usefixtures("no_folder")
def test_a_folder_is_used_unless_one_is_set_or_none_is_wanted(tmp_path):
    compilation_cache.use(None)
    assert jax.config.jax_compilation_cache_dir is None
    compilation_cache.use(str(tmp_path / "first"))
    compilation_cache.use(str(tmp_path / "second"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "first")


def test_another_cache_keeps_what_is_compiled_and_gives_way_to_the_old_one(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    with compilation_cache.replaced_by(str(tmp_path)):
        jax.jit(lambda x: jnp.sin(x) * 3.25).lower(jnp.ones(7)).compile()
        assert any(path.name.endswith("-cache") for path in tmp_path.iterdir())
    assert jax.config.jax_compilation_cache_dir == before
