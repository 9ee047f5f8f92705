"""Descriptions of every corruption and hack for the report."""

from __future__ import annotations

from collections.abc import Mapping

RENDERED: Mapping[str, str] = {
    "morph": "objects swell, shrink and wander",
    "morphing_object": "one object swells, shrinks and wanders, the others stand still",
    "moving_object": "one object travels as one piece: honest motion",
    "moving_objects": "two objects travel, each as one piece: honest motion",
    "bend": "a warp of the image that changes over time",
    "swim": "textures slide along their surfaces",
    "vanish": "the largest object shrinks or disappears half-way",
    "flicker": "exposure and white balance jump from frame to frame",
    "jitter": "the camera shakes",
    "wrong_direction": "the camera leaves the commanded direction, up to the opposite",
    "wrong_speed": "the camera makes less of the commanded way, down to 40 %",
    "frozen": "the camera stays where it is",
    "frozen_noise": "the same with fresh noise in every frame",
    "repeated": "one frame again and again",
    "flat2d": "one picture is zoomed or slid as the command asks",
    "blur": "every frame is blurred by 5 % of the width",
    "pure_noise": "no picture at all",
    "unrelated": "every frame shows another scene",
    "scene_cut": "half-way, another scene begins",
    "grey_fade": "the picture fades to grey",
}
"""Kinds of the rendered world."""

FOOTAGE: Mapping[str, str] = {
    "morph": "a textured region swells, shrinks and wanders",
    "bend": RENDERED["bend"],
    "swim": "textures slide inside several regions",
    "vanish": "a textured region disappears half-way and is filled from its surroundings",
    "flicker": RENDERED["flicker"],
    "jitter": "every frame is turned, shifted and zoomed a little",
    "reversed": "the clip ends where it began: there and back, or all backwards",
    "wrong_speed": "the clip makes less of the commanded way, down to 40 %",
    "rushed": "the clip runs faster, up to double speed, and then stands still",
    "frozen": "the first frame stays",
    "frozen_noise": RENDERED["frozen_noise"],
    "repeated": "the first few frames again and again",
    "zoom2d": "a 2D zoom into the first frame",
    "slide2d": "a 2D slide over the first frame",
    "blur": RENDERED["blur"],
    "pure_noise": RENDERED["pure_noise"],
    "unrelated": "every frame is from another clip or another place in it",
    "scene_cut": "half-way, another clip begins",
    "grey_fade": RENDERED["grey_fade"],
}
"""Kinds of real footage."""
