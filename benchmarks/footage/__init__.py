"""Parts of `real_footage.py`."""
