"""U-Nets for medical image segmentation in JAX.

    import unet_jax

    segment = unet_jax.load("runs/default")
    mask = segment(image)

`unet_jax.models`, `unet_jax.losses` and `unet_jax.metrics` are the parts; see docs/api.md. Nothing is imported before
it is used: what only reads data need not start jax.
"""

from typing import TYPE_CHECKING, Any

from unet_jax import version

if TYPE_CHECKING:
    from unet_jax import losses, metrics, models
    from unet_jax.api import load

__version__ = version.VERSION

__all__ = ["__version__", "load", "losses", "metrics", "models"]


def __getattr__(name: str) -> Any:
    match name:
        case "load":
            from unet_jax.api import load as found
        case "losses":
            import unet_jax.losses as found
        case "metrics":
            import unet_jax.metrics as found
        case "models":
            import unet_jax.models as found
        case _:
            raise AttributeError(f"module 'unet_jax' has no attribute {name!r}")
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
