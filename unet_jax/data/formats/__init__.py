"""One file a format: which files make up a case, and their pixels; `sources` finds out which format a folder holds.

Called by the rest of `data`, and by the writers of masks, which go the same way back. Never imports jax.
"""
