"""World-R1 train."""

__version__ = "0.1.0"
