"""Weights to start from: PyTorch's files, converted, and the folders that hold the result.

Called when training is set up, and as a command.
"""
