"""Trains, scores and uses U-Nets; the same program as the command `unet-jax` of an installed package.

python main.py --config=configs/default.py
python main.py --help
"""

from unet_jax.__main__ import run

if __name__ == "__main__":
    run()
