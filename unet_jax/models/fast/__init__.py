"""Layers that are faster on one backend, and the same mathematics on all.

Called by `models.layers` alone: no network sees which was chosen. `layouts` has what the compiler is told, by those
who compile programs.
"""
