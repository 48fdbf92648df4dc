"""Checkpoints without pickle: safetensors for the tensors, JSON for the rest, written completely or not at all."""
