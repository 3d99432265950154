"""How fast a recipe runs on the device at hand: the measuring code of `--mode=benchmark` and of `benchmarks/`.

Called by these two alone.
"""
