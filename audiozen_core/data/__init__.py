"""From a data set to batches: loader, workers, and samples that can't be read."""
