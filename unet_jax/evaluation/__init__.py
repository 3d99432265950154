"""Scores a run on one side of its split, and chooses a threshold.

Called by `--mode=evaluate`, at the end of training, and by cross-validation.
"""
