"""From a data set to batches on a device: order, seeds, workers, collating, and samples that can't be read.

Also what other rooms do with batches: describe them, take them apart into files, and apply a function to their tensors.
"""
