import jaxtyping
import numpy as np
import pytest

from unet_jax.data.case import Case
from unet_jax.errors import InputError


def test_a_case_keeps_what_it_is_given():
    image = np.zeros((2, 3, 4, 1), np.float32)
    case = Case("a", "p", image, None, (5.0, 1.0, 1.0))
    assert case.image is image
    assert case.mask is None
    assert case.spacing == (5.0, 1.0, 1.0)


@pytest.fixture
def _as_outside_tests():
    """Without the shape checks that stand before a class's own in tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_as_outside_tests")
def test_mask_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"scan7: the image is \(2, 3, 4\) and the mask \(2, 4, 3\)"):
        Case("scan7", "p", np.zeros((2, 3, 4, 3), np.uint8), np.zeros((2, 4, 3), np.uint8))


def test_an_image_without_pixels_is_refused():
    with pytest.raises(InputError, match="scan7: the image has no pixel"):
        Case("scan7", "p", np.zeros((0, 3, 4, 3), np.uint8), None)
