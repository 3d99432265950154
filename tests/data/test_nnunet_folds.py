import pytest
from nnunet_choice import answers

from unet_jax.data.nnunet_folds import folds_of
from unet_jax.errors import InputError


@pytest.mark.parametrize("count", [5, 7, 20, 131])
def test_the_folds_are_nnunets(count):
    names = [f"case_{number:03d}" for number in range(count)]
    assert folds_of(names) == answers()["splits"][str(count)]
    assert folds_of(names[::-1]) == folds_of(names)


def test_too_few_cases_are_refused_as_by_nnunet():
    assert answers()["splits"]["3"].startswith("ValueError")
    with pytest.raises(InputError, match="draws 5 folds, and the data have 3 cases"):
        folds_of(["a", "b", "c"])
