"""Judges: vision-language models that grade images from 0 to 9, on this machine or behind an endpoint."""
