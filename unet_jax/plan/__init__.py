"""nnU-Net's rules, held to the numbers of its version 2.8.1: cases to a fingerprint, to a plan, to resampled cases.

numpy and scipy; nothing here imports jax. It reads from unet_jax.data, unet_jax.files and unet_jax.errors alone, and
everything above (runs, training, inference) may call it.
"""
