"""Sections of `gpu.py`: each measures the same work on the CPU and on another device."""
