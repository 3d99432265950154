import subprocess
import sys

import pytest

from unet_jax.errors import InputError
from unet_jax.run import recipes


def test_a_recipe_is_found_by_name_and_a_file_by_path(tmp_path):
    assert recipes.find("lgg") == (recipes.FOLDER / "lgg.py", None)
    assert recipes.find("lgg:wide") == (recipes.FOLDER / "lgg.py", "wide")
    (tmp_path / "lgg.py").touch()
    assert recipes.find(f"{tmp_path}/lgg.py") == (tmp_path / "lgg.py", None)
    assert recipes.find(f"{tmp_path}/lgg.py:wide") == (tmp_path / "lgg.py", "wide")


def test_every_recipe_has_a_name():
    assert recipes.names() == sorted(path.stem for path in recipes.FOLDER.glob("*.py"))
    assert {"default", "lgg_cpu", "nnunet"} <= set(recipes.names())


def test_a_missing_file_lists_those_there_are(tmp_path):
    (tmp_path / "lgg.py").touch()
    with pytest.raises(InputError, match=r"lg\.py: there is no such file; in .* there are lgg\.py\.$"):
        recipes.find(str(tmp_path / "lg.py"))
    with pytest.raises(
        InputError, match=r"no/lgg\.py: there is no such file; recipes of the program are .*: buda2019, "
    ):
        recipes.find("no/lgg.py")


# A folder of recipes of one's own is imported from before the program's; started anywhere.
ELSEWHERE = """
from unet_jax.run import config_file
print(config_file.with_paths(["--config=configs/mine.py"]))
"""


def test_recipes_import_each_other_from_anywhere(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "base.py").write_text("WIDTH = 7\n")
    (folder / "mine.py").write_text(
        "from configs import base, default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    config.model.width = base.WIDTH\n"
        "    return config\n"
    )
    project = str(recipes.FOLDER.parent)
    command = [sys.executable, "-c", f"import sys; sys.path.append({project!r})\n{ELSEWHERE}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "['--config=configs/mine.py']"), done.stderr
