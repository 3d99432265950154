"""The command `unet-jax`, also `python -m unet_jax` and `python main.py`: flags, modes and how it ends.

`flags.py` has every flag, `parse.py` reads them, `modes.py` does what --mode names, `usage.py` is --help.
"""
