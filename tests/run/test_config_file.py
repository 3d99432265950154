import pytest

from unet_jax.errors import InputError
from unet_jax.run import config_file, recipes

DIVIDES = """from configs import default


def get_config():
    config = default.get_config()
    config.train.epochs = 100 // config.data.folds
    return config
"""


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (DIVIDES, "line 6: ZeroDivisionError: integer division or modulo by zero"),
        ("def get_config():\n    return {}['width']\n", "line 2: KeyError: 'width'"),
        (
            "import json\n\ndef get_config():\n    return json.loads('{')\n",
            "line 4: JSONDecodeError: Expecting property",
        ),
        ("def get_config(:\n    pass\n", "line 1: SyntaxError: invalid syntax"),
        ("raise RuntimeError\n", "line 1: RuntimeError: no message"),
    ],
    ids=["divides by zero", "key", "elsewhere", "syntax", "at import"],
)
def test_an_exception_is_named_with_file_and_line(tmp_path, source, line):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(InputError) as caught:
        config_file.with_paths(["main.py", f"--config={path}", "--config.model.width=3"])
    assert str(caught.value).startswith(f"{path}, {line}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_relative_path_is_followed_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(InputError, match=r"^mine\.py, line 2: ZeroDivisionError"):
        config_file.with_paths(["--config=mine.py"])


def test_what_stands_after_the_colon_is_given_to_get_config(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_config(name):\n    assert name == 'wide', name\n")
    config_file.with_paths([f"--config={path}:wide"])
    with pytest.raises(InputError, match="line 2: AssertionError: narrow"):
        config_file.with_paths([f"--config={path}:narrow"])


def test_a_command_without_a_config_is_fine():
    arguments = ["main.py", "--mode=evaluate", "--workdir=run"]
    assert config_file.with_paths(arguments) == arguments


@pytest.mark.parametrize("name", [["--config=lgg_cpu"], ["--config", "lgg_cpu"]])
def test_a_name_becomes_a_path(name):
    *first, last = config_file.with_paths(["main.py", *name, "--config.model.width=3"])
    assert last == "--config.model.width=3"
    assert first[-1].removeprefix("--config=") == str(recipes.FOLDER / "lgg_cpu.py")
