"""World-R1 backbones."""

__version__ = "0.1.0"
