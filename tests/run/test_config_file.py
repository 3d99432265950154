import pytest

from unet_jax.errors import InputError
from unet_jax.run import config_file

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
        config_file.check(["main.py", f"--config={path}", "--config.model.width=3"])
    assert str(caught.value).startswith(f"{path}, {line}")
    assert len(str(caught.value).splitlines()) == 1


def test_what_stands_after_the_colon_is_given_to_get_config(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_config(name):\n    assert name == 'wide', name\n")
    config_file.check([f"--config={path}:wide"])
    with pytest.raises(InputError, match="line 2: AssertionError: narrow"):
        config_file.check([f"--config={path}:narrow"])


def test_a_missing_file_lists_those_there_are(tmp_path):
    (tmp_path / "lgg.py").touch()
    with pytest.raises(InputError, match=r"lg\.py: there is no such file; in .* there are lgg\.py\.$"):
        config_file.check([f"--config={tmp_path / 'lg.py'}"])


def test_a_command_without_a_config_is_fine():
    config_file.check(["main.py", "--mode=evaluate", "--workdir=run"])
