"""Procedural worlds with exact truth: a ray-caster, camera paths, and corruptions whose answer is known.

```python
from worlds import render_world
world = render_world("soft", "orbit left", seed=3, size=(128, 128), num_frames=17)
broken = render_world("soft", "orbit left", seed=3, corruption="morph", severity=0.5)
```
"""

from worlds.clips import WorldClip, render_world
from worlds.corruptions import CORRUPTIONS, HACKS
from worlds.paths import CHAINS, MOVES, camera_path, prompt_of
from worlds.raycaster import intrinsics, render_depth, render_frame
from worlds.scenes import FAMILIES, Scene, build_scene

__all__ = [
    "CHAINS",
    "CORRUPTIONS",
    "FAMILIES",
    "HACKS",
    "MOVES",
    "Scene",
    "WorldClip",
    "build_scene",
    "camera_path",
    "intrinsics",
    "prompt_of",
    "render_depth",
    "render_frame",
    "render_world",
]
