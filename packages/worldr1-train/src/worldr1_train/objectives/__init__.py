"""Objectives (loss functions) for post-training."""
