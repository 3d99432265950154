"""From numbers and masks to pages, tables and pictures.

Called by evaluation, training and cross-validation; computes no score of its own.
"""
