import pytest

from unet_jax.benchmark import device_peak


@pytest.mark.parametrize(
    ("kind", "peak"),
    [("NVIDIA H100 PCIe", 756), ("NVIDIA H100 80GB HBM3", 989.4), ("TPU v5 lite", 197), ("TPU v5", 459), ("cpu", None)],
)
def test_the_published_peak_goes_by_the_longest_name(kind, peak):
    assert device_peak.published_tflops(kind) == peak


def test_the_rate_is_the_operations_over_the_median(monkeypatch):
    monkeypatch.setattr(device_peak, "LARGEST", 1024)
    monkeypatch.setattr(device_peak.timing, "sample", lambda call, seconds: [0.5, 0.001, 0.001])
    assert device_peak.measured_tflops("float32", 1.0) == pytest.approx(2 * 1024**3 / 0.001 / 1e12)
