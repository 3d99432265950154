"""Weights from elsewhere: files of PyTorch converted once and for all, and weights to start from.

Called by the set-up of training, and as a command.
"""
