import pytest
from nnunet_answers import planning

from unet_jax.plan.enlarged_patch import enlarged_patch, is_flat, rotation


@pytest.mark.parametrize("case", planning()["enlarged_patch"], ids=lambda case: str(case["patch"]))
def test_as_nnunet(case):
    assert list(enlarged_patch(case["patch"])) == case["initial"]
    assert is_flat(case["patch"]) == case["dummy2d"]
    assert rotation(case["patch"]) == pytest.approx(case["rot_deg"])


def test_a_square_turned_by_a_quarter_grows_by_the_scale_alone():
    assert enlarged_patch((85, 85)) == (100, 100)
