import pytest

from unet_jax.wording import count, duration


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "case"), "1 case"),
        ((0, "case"), "0 cases"),
        ((1439, "slice"), "1,439 slices"),
        ((2, "patch", "patches"), "2 patches"),
    ],
)
def test_one_and_many(arguments, text):
    assert count(*arguments) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.34, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.0, "99 s"),
        (100.0, "2 min"),
        (3599.0, "1 h"),
        (11400.0, "3 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
