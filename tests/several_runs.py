"""Whether two runs left the same, up to the order in which sums over devices are added, and to the clock."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from unet_jax.run import history

CLOCK = ("seconds", "images_per_second", "seconds_per_case")
SAME = ("config.json", "split.json", "data.json", "evaluation/test/cases.csv", "evaluation/test/cases.png")


def records(workdir: Path) -> list[dict]:
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in history.read(workdir)]


def parameters(workdir: Path) -> Any:
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    return ocp.PyTreeCheckpointer().restore((workdir / "checkpoints" / str(step) / "model").absolute())


def metrics(workdir: Path, side: str = "test") -> dict:
    found = json.loads((workdir / "evaluation" / side / "metrics.json").read_text())
    return {key: value for key, value in found.items() if key not in CLOCK}


def assert_same_run(found: Path, expected: Path) -> None:
    for ours, theirs in zip(records(found), records(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), parameters(found), parameters(expected))
    assert metrics(found) == metrics(expected)
    for name in SAME:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
