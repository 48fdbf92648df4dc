"""Turns a data set into batches: order, seeds, workers, collating, and samples that can't be read.

This room also has functions that describe batches, split them into files, and transform their tensors.
"""
