"""One case in, one mask in its own geometry out: preprocess, network, windows, post-processing; `--mode=predict`.

The one path of validation, evaluation, prediction and `unet_jax.load`.
"""
