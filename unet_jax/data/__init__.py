"""From files to uint8 batches: numpy, OpenCV and grain; nothing here imports jax."""
