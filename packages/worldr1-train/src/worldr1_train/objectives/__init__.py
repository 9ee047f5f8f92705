"""Objectives of post-training."""
