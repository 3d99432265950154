"""A run's network as one file for programs without this package: StableHLO or ONNX.

Called by `--mode=export`.
"""
