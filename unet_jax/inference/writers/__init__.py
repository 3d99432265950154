"""What prediction writes, one module per format; called by `predict`.

A writer of masks has two functions. `plan(files, probabilities, classes)` names the files that will hold a case's
masks, relative to the output folder, before anything is computed. `encode(files, root, mask, probability, classes)`
yields their bytes. `classes` is the label map of several classes; None or an empty one means a single class.
"""
