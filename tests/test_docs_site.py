import importlib.util
import re
from pathlib import Path

from configs import default
from unet_jax.run_folder import flatten

SITE = Path(__file__).parents[1] / "docs" / "site"


def _load(name):
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


config_keys = _load("config_keys")
# key, default and meaning
ROW = re.compile(r"^\| `config\.([\w.]+)` \| `(.+)` \| (.*) \|$", re.MULTILINE)


def test_every_key_is_on_the_page_with_its_default():
    rows = {}
    for key, value, _ in ROW.findall(config_keys.page()):
        assert key not in rows, key
        rows[key] = eval(value, {})
    assert flatten(rows) == flatten(default.get_config().to_dict())


def test_every_key_is_explained_in_the_words_of_the_config():
    words = re.sub(r"\s*\n\s*# ", " ", (SITE.parents[1] / "configs" / "default.py").read_text())
    for key, _, meaning in ROW.findall(config_keys.page()):
        assert re.sub(r"&#(\d+);", lambda code: chr(int(code[1])), meaning).strip() in words, key
        assert meaning, key


def test_a_key_without_a_comment_shares_the_one_above():
    rows = {key: meaning for key, _, meaning in ROW.findall(config_keys.page())}
    assert rows["augment.flip_rows"] == rows["augment.flip_columns"] == "Upside down, and left to right."
    assert rows["data.patient_pattern"] == rows["data.patient_csv"]


def test_what_markdown_would_take_for_its_own_is_escaped():
    rows = {key: meaning for key, _, meaning in ROW.findall(config_keys.page())}
    assert "A multiple of 2&#42;&#42;(depth - 1)." in rows["data.image_size"]
    assert '"(?P&#60;patient&#62;&#91;^_&#93;+)_' in rows["data.patient_pattern"]
