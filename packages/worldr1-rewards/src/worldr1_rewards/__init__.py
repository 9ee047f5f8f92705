"""Score videos for 3D consistency and camera obedience.

Importing this package imports neither torch nor any model.
"""

__version__ = "0.1.0"
