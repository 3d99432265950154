"""Runs to give away: `--mode=pack` makes one file of a run, of a cross-validation or of a choice, with a model card.

`run.pack_file` reads what is written here.
"""
