import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["losses", "metrics.overlap"])
def test_examples_are_true(name):
    found = doctest.testmod(importlib.import_module(f"unet_jax.{name}"))
    assert found.attempted
    assert not found.failed
