"""U-Nets for medical image segmentation in JAX.

    import unet_jax

    segment = unet_jax.load("runs/default")
    mask = segment(image)

`unet_jax.models`, `unet_jax.losses` and `unet_jax.metrics` are the parts; see docs/api.md. Nothing is imported before it
is used: what only reads data need not start jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_jax import losses, metrics, models
    from unet_jax.api import load

__all__ = ["load", "losses", "metrics", "models"]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("unet_jax.api").load
    if name in __all__:
        return importlib.import_module(f"unet_jax.{name}")
    raise AttributeError(f"module 'unet_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
