import jax
import pytest

from unet_jax.errors import InputError
from unet_jax.runtime.device_memory import device_memory_gb


class Device:
    def __init__(self, limit, platform="gpu"):
        self.limit, self.platform, self.device_kind = limit, platform, "a device"

    def memory_stats(self):
        return self.limit if self.limit is None else {"bytes_limit": self.limit}


def test_the_smallest_limit_counts(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(24 * 2**30), Device(16 * 2**30)])
    assert device_memory_gb() == 16


@pytest.mark.parametrize("device", [Device(None), Device(2**34, "cpu"), Device(0)], ids=["silent", "cpu", "nothing"])
def test_without_an_accelerator_it_says_what_to_give(monkeypatch, device):
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    with pytest.raises(InputError, match=r"^config.plan.device=True: a device .* give config.plan.memory_gb instead"):
        device_memory_gb()
