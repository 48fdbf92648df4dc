"""The scores of audio files: file formats, means with intervals, and tables. This package does not import torch."""
