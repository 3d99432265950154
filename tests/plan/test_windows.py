import numpy as np
import pytest
from nnunet_arrays import answers, arrays

from unet_jax.plan import windows


@pytest.mark.parametrize("call", answers()["windows"], ids=lambda call: f"{call['image']}-{call['tile']}")
def test_starts_as_nnunet(call):
    assert windows.starts(call["image"], call["tile"], call["step"]) == call["steps"]


@pytest.mark.parametrize("size", ["8x8x8", "16x24x20", "32x32", "7x9x5"])
def test_importance_as_nnunet(size):
    found = windows.importance([int(n) for n in size.split("x")])
    np.testing.assert_array_equal(found, arrays("gaussian")[f"f32_{size}"])
    np.testing.assert_array_equal(windows.in_half_precision(found), arrays("gaussian")[f"f16_{size}"])


@pytest.mark.parametrize("size", ["64x96x80", "128x128x128", "512x512"])
def test_importance_of_large_windows(size):
    window = [int(n) for n in size.split("x")]
    found = windows.importance(window)
    for axis in range(len(window)):
        line = tuple(slice(None) if other == axis else n // 2 for other, n in enumerate(window))
        np.testing.assert_array_equal(found[line], arrays("gaussian")[f"line{axis}_{size}"])
    low, high, total, half, count = arrays("gaussian")[f"stats_{size}"]
    assert (found.min(), found.max()) == (np.float32(low), np.float32(high))
    assert found.sum(dtype=np.float64) == pytest.approx(total, rel=1e-12)
    halves = windows.in_half_precision(found)
    assert (halves.min(), (halves == halves.min()).sum()) == (np.float16(half), count)


@pytest.mark.parametrize("call", answers()["padding"], ids=lambda call: f"{call['image']}-{call['patch']}")
def test_padding_as_nnunet(call):
    _, *shape = call["image"]
    margins = windows.centred(shape, call["patch"])
    assert [before + n + after for n, (before, after) in zip(shape, margins, strict=True)] == call["padded"][1:]
    assert [[before, before + n] for n, (before, _) in zip(shape, margins, strict=True)] == call["revert"][1:]
