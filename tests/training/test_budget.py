import json

import pytest

from configs import default
from unet_jax.errors import InputError
from unet_jax.training import budget
from unet_jax.training.trial import Trial

# 10 seconds a step, 50 a validation.
TRIAL = Trial(first_step=60.0, step=10.0, validation=50.0, host_gb=1.0, device_gb=None)


@pytest.fixture
def config():
    config = default.get_config()
    config.train.epochs = 9
    return config


def _refuse():
    raise AssertionError("nothing is to be measured")


def test_what_is_reached_first_ends_the_run(config, tmp_path):
    assert budget.total_steps(config, tmp_path, 5, _refuse) == 45
    config.train.steps = 33
    assert budget.total_steps(config, tmp_path, 5, _refuse) == 33
    assert budget.most_steps(config, tmp_path) == 33
    config.train.steps = 60
    assert budget.total_steps(config, tmp_path, 5, _refuse) == 45
    assert list(tmp_path.iterdir()) == []


def test_minutes_become_steps_once(config, tmp_path):
    """An epoch of 5 steps takes 100 seconds with its validation: in 10 minutes there are 30 steps."""
    config.train.minutes = 10.0
    assert budget.expected_steps(config, tmp_path, 5, TRIAL) == 30
    assert not (tmp_path / budget.NAME).exists()
    assert budget.total_steps(config, tmp_path, 5, lambda: TRIAL) == 30
    assert json.loads((tmp_path / budget.NAME).read_text())["steps"] == 30
    assert budget.total_steps(config, tmp_path, 5, _refuse) == 30
    assert budget.most_steps(config, tmp_path) == 30
    config.train.steps = 20
    assert budget.total_steps(config, tmp_path, 5, _refuse) == 20
    # Nothing has begun, and other minutes are asked for.
    config.train.update({"minutes": 0.01, "steps": None})
    assert budget.total_steps(config, tmp_path, 5, lambda: TRIAL) == 1


@pytest.mark.parametrize(
    "content", [None, "{}", '{"steps": 30, "minutes": 11.0}', '{"steps": "many", "minutes": 10.0}']
)
def test_a_run_that_has_begun_keeps_to_its_record(config, tmp_path, content):
    config.train.minutes = 10.0
    (tmp_path / "config.json").write_text("{}")
    if content is not None:
        (tmp_path / budget.NAME).write_text(content)
    with pytest.raises(InputError, match=r"budget\.json .*restore"):
        budget.total_steps(config, tmp_path, 5, _refuse)


def test_what_a_trial_tells():
    assert TRIAL.lines(12, 5).splitlines() == [
        "  memory      1.00 GB on the host, at most so far",
        "  first step  60 s, compiling included",
        "  step        10 s",
        "  validation  about 50 s an epoch",
        # 60 + 120 + 3 * 50 seconds
        "  whole run   about 6 min: 3 epochs, 12 steps; without reading the data, checkpoints and the last scores",
    ]
