"""From a data set to batches on a device: order, seeds, workers, collating, and samples that can't be read.

Other rooms also find functions here that describe batches, split them into files, and transform their tensors.
"""
