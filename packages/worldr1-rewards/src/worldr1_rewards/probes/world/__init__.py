"""Procedural worlds with exact truth: a ray-caster, camera paths, and corruptions whose answer is known.

```python
from worldr1_rewards.probes.world import render_world
world = render_world("soft", "orbit left", seed=3, size=(128, 128), num_frames=17)
broken = render_world("soft", "orbit left", seed=3, corruption="morph", severity=0.5)
```
"""

from worldr1_rewards.probes.world.clips import WorldClip, render_world
from worldr1_rewards.probes.world.corruptions import CORRUPTIONS, HACKS, MORPHING_OBJECT, MOTIONS, STILL_HACKS
from worldr1_rewards.probes.world.paths import CHAINS, MOVES, camera_path, prompt_of
from worldr1_rewards.probes.world.raycaster import intrinsics, render_depth, render_frame
from worldr1_rewards.probes.world.scenes import FAMILIES, Scene, build_scene

__all__ = [
    "CHAINS",
    "CORRUPTIONS",
    "FAMILIES",
    "HACKS",
    "MORPHING_OBJECT",
    "MOTIONS",
    "MOVES",
    "STILL_HACKS",
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
