"""How fast a recipe runs on the device at hand: what `--mode=benchmark` and the scripts in benchmarks/ measure with.

Called by these alone.
"""
