"""From files to uint8 batches: formats, cases, the cache of decoded cases, splits and batches, in numpy and grain.

Called by all that reads data. Never imports jax, so that worker processes need not start it.
"""
