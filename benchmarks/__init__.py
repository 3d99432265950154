"""Measurements, whose results stand in docs/. What they measure with is in unet_jax/benchmark."""
