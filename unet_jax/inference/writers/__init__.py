"""What prediction writes, one file a format.

A writer of masks is a module with two functions. `plan(files, probabilities, classes)` names the files that will hold a
case's masks, relative to the output's folder, before anything is computed; `encode(files, root, mask, probability,
classes)` makes their bytes. `classes` are several; None, or none, stands for one.
"""
