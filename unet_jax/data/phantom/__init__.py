"""The built-in phantom: synthetic brain MRI with tumours, written in the layout of the LGG data set.

Called when a config's source is the phantom. Never imports jax.
"""

from unet_jax.data.phantom.dataset import write, write_once

__all__ = ["write", "write_once"]
