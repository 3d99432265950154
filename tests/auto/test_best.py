import pytest

from unet_jax.auto import best
from unet_jax.auto.best import Best
from unet_jax.errors import InputError


def test_a_choice_survives_its_file(tmp_path):
    chosen = Best(("2d", "3d_fullres"), (0, 1), ((1, 2), ((1, 2, 3), (2,))), {"origin": "abc"})
    best.write(tmp_path, chosen)
    assert best.read(tmp_path) == chosen


def test_an_edited_choice_is_refused(tmp_path):
    best.write(tmp_path, Best(("2d",), (0,), (), {}))
    path = tmp_path / "best.json"
    path.write_text(path.read_text().replace('"2d"', '"3d"'))
    with pytest.raises(InputError, match="damaged or edited"):
        best.read(tmp_path)
    path.write_text('{"configurations": ["2d"]}')
    with pytest.raises(InputError, match="is not a choice"):
        best.read(tmp_path)
