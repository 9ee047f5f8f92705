"""Plugin host, interfaces, camera maths, manifest and command line of World-R1.

Importing this package imports neither torch nor any plugin, so that `worldr1 --help` answers at once. Import what
you need from the modules: `worldr1_core.video`, `worldr1_core.camera`, `worldr1_core.reward`, ...
"""

from worldr1_core.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl"]
