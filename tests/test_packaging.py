"""What an installed package holds."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_and_the_configs_are_installed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("unet_jax/**/__init__.py")
    ]
    assert packages == sorted([*found, "unet_jax.configs"])
