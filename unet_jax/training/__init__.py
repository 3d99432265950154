"""A run in two files: `train` in reading order, `loop` its epochs; what they call lies beside them.

Called by `--mode=train` and by cross-validation.
"""
