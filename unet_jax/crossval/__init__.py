"""Every fold of a recipe trained and scored, and its patients pooled.

Called by `--mode=crossval`.
"""
