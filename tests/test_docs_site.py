import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default
from unet_jax.run.config import flatten

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
    assert '"(?P&#60;patient&#62;&#91;^&#95;&#93;+)&#95;' in rows["data.patient_pattern"]
    assert "`scaled_down`" in rows["data.source"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", SITE / "mkdocs.yml", "-d", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(site):
    pages = {path.name: path.read_text() for path in site.glob("*.html")}
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"?((?:https?:)?//[^\" >]+)", text)
        assert loaded == [], name
    assert "A trained U-Net in a few minutes" in pages["quickstart.html"]
    assert 'href="configs.html"' in pages["quickstart.html"]
    assert {"CHANGELOG.html", "CONTRIBUTING.html", "SECURITY.html"} <= pages.keys()
    assert (site / "examples" / "quickstart.ipynb").exists()
    for name in ("unet_jax.api.load", "unet_jax.models.build", "unet_jax.losses.region.dice"):
        assert f'id="{name}"' in pages["reference.html"]


def test_the_site_is_searched_from_disk_and_no_page_is_wider_than_its_window(site, browser):
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 844})
    context.set_default_timeout(30_000)
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    for page in ("data.html", "reference.html"):
        tab.goto((site / page).as_uri())
        for width, height in ((390, 844), (820, 390), (1280, 720), (1600, 900)):
            tab.set_viewport_size({"width": width, "height": height})
            # the theme's script puts wide tables into boxes that scroll, a moment after a page is there
            tab.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.goto((site / "index.html").as_uri())
    # the home page sells in one screen
    button = tab.locator("a.md-button", has_text="Quick start").bounding_box()
    assert button["y"] + button["height"] < 720
    tab.locator(".md-search__input").press_sequentially("surface tolerance")
    # results come while words are still typed
    tab.locator(".md-search-result__item a[href^='file:']").first.wait_for(state="attached")
    context.close()
    assert faults == []
