import jax
import pytest

from configs import default
from unet_jax.training import first_step


@pytest.fixture
def folder(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_time_of_the_same_program_is_told_and_no_other(folder):
    config = default.get_config()
    assert first_step.text(config) == "compiling the first step"
    first_step.keep(config, 41.26)
    first_step.keep(config, 4.26)
    assert first_step.text(config) == "compiling the first step, last time 4.3 s"
    config.train.epochs = 3
    assert first_step.text(config) == "compiling the first step, last time 4.3 s"
    config.model.width = 32
    assert first_step.text(config) == "compiling the first step"
    first_step.keep(config, 60.0)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": "b"}', b""])
def test_a_damaged_file_tells_nothing(folder, content):
    config = default.get_config()
    (folder / first_step.NAME).write_bytes(content)
    assert first_step.text(config) == "compiling the first step"
    first_step.keep(config, 2.0)
    assert first_step.text(config).endswith("last time 2.0 s")


def test_without_a_cache_nothing_is_kept(folder):
    jax.config.update("jax_compilation_cache_dir", None)
    first_step.keep(default.get_config(), 2.0)
    assert first_step.text(default.get_config()) == "compiling the first step"
