import pytest

from unet_jax.benchmark import device_peak, rates

PEAK = {"float32": 4.0, "bfloat16": 8.0, "published_bfloat16": 10.0}
# Median .2 s.
SAMPLES = [0.1, 0.2, 0.9]


def test_images_a_second_go_by_the_median():
    assert rates.images_per_second(SAMPLES, 8) == pytest.approx(40)
    assert rates.images_per_second([0.25, 0.75], 3) == pytest.approx(6)


@pytest.mark.parametrize(
    ("dtype", "share", "published", "floor"), [("float32", 0.5, None, 100), ("bfloat16", 0.25, 0.2, 50)]
)
def test_speeds_by_hand(dtype, share, published, floor):
    """1.2e12 operations in .2 s are 6 TFLOP/s, 2 on each of three devices, whose products do 4 or 8."""
    found = rates.speeds(SAMPLES, images=8, flops=1_200_000_000_000, dtype=dtype, devices=3, peak=PEAK)
    assert found == {
        "p50_ms": pytest.approx(200),
        "p95_ms": pytest.approx(830),
        "samples": 3,
        "images_per_second": pytest.approx(40),
        "gflop": pytest.approx(1200),
        "floor_ms": pytest.approx(floor),
        "tflops_a_device": pytest.approx(2),
        "share_of_measured_peak": pytest.approx(share),
        "share_of_published_peak": None if published is None else pytest.approx(published),
    }


def test_no_share_of_a_peak_that_nobody_published():
    unpublished = PEAK | {"published_bfloat16": None}
    assert rates.speeds(SAMPLES, 8, 10**12, "bfloat16", 1, unpublished)["share_of_published_peak"] is None


def test_peaks_are_measured_in_both_types(monkeypatch):
    monkeypatch.setattr(
        device_peak, "measured_tflops", lambda dtype, seconds: {"float32": 1, "bfloat16": 2}[dtype] * seconds
    )
    monkeypatch.setattr(device_peak, "published_tflops", lambda kind: 989.4)
    assert rates.peak_tflops(3.0) == {"float32": 3.0, "bfloat16": 6.0, "published_bfloat16": 989.4}
