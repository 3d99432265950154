"""What an installed package holds."""

import re
import tomllib
from pathlib import Path

from unet_jax.version import VERSION

ROOT = Path(__file__).parents[1]


def test_every_package_and_the_configs_are_installed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent.relative_to(ROOT) for path in ROOT.glob("unet_jax/**/__init__.py")]
    assert packages == sorted(["unet_jax.configs", *(".".join(folder.parts) for folder in folders)])


def test_files_that_are_no_modules_are_installed_and_built_ones_ignored():
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {
        path
        for name, patterns in given.items()
        for each in patterns
        for path in (ROOT / name.replace(".", "/")).glob(each)
    }
    others = {path for path in ROOT.glob("unet_jax/**/*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others
    assert others <= found
    assert "/build/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_version_and_the_lint_are_the_same_everywhere():
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    [ruff] = re.findall(r"^ruff.*$", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert (ROOT / ".pre-commit-config.yaml").read_text().count(f'additional_dependencies: ["{ruff}"]') == 2


def test_the_image_gets_every_file_that_an_installation_reads():
    copied = " ".join(re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)).split()
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(allowed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"][0]}
    assert {*needed, "unet_jax", "configs", "pyproject.toml"} <= set(copied)
