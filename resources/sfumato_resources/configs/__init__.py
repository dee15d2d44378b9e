"""Configurations of known model families, in diffusers layout and without weights, so that single-file checkpoints load offline."""
