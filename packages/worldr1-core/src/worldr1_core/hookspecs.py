"""The hooks through which every component enters World-R1, our own ones included.

A plugin is an importable module named by an entry point of the group `worldr1`. It implements any of the hooks below
with `hookimpl`. A hook that registers components returns a mapping `name -> "module:attribute"`: strings, so that
nothing heavy is imported until a manifest names the component.

Example:
    ```python
    from worldr1_core import hookimpl

    @hookimpl
    def worldr1_register_rewards():
        return {"brightness": "worldr1_brightness:BrightnessReward"}
    ```
"""

from __future__ import annotations

from collections.abc import Mapping

import pluggy

PROJECT_NAME = "worldr1"
ENTRY_POINT_GROUP = "worldr1"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def worldr1_register_rewards() -> Mapping[str, str]:
    """Register rewards: `name -> "module:Class"`, each a `worldr1_core.reward.Reward`."""
    return {}


@hookspec
def worldr1_register_reconstructors() -> Mapping[str, str]:
    """Register reconstructors: `name -> "module:Class"`, each a `worldr1_core.reconstructor.Reconstructor`."""
    return {}


@hookspec
def worldr1_register_judges() -> Mapping[str, str]:
    """Register judges: `name -> "module:Class"`, each a `worldr1_core.judge.Judge`."""
    return {}


@hookspec
def worldr1_register_backbones() -> Mapping[str, str]:
    """Register text-to-video backbones: `name -> "module:Class"`, each a `worldr1_core.backbone.Backbone`."""
    return {}


@hookspec
def worldr1_register_noise_conditioners() -> Mapping[str, str]:
    """Register noise conditioners: `name -> "module:Class"`, each a `worldr1_core.noise.NoiseConditioner`."""
    return {}


@hookspec
def worldr1_register_samplers() -> Mapping[str, str]:
    """Register samplers, which make the policy: `name -> "module:Class"`, each a `worldr1_core.sampler.Sampler`."""
    return {}


@hookspec
def worldr1_register_objectives() -> Mapping[str, str]:
    """Register objectives of post-training: `name -> "module:Class"`, each a `worldr1_core.objective.Objective`."""
    return {}


@hookspec
def worldr1_register_placements() -> Mapping[str, str]:
    """Register places where rewards run: `name -> "module:Class"`, each a `worldr1_core.placement.Placement`."""
    return {}


@hookspec
def worldr1_register_manifest_sections() -> Mapping[str, str]:
    """Register top-level manifest sections: `key -> "module:Model"`, each a pydantic model that owns the section."""
    return {}


@hookspec
def worldr1_register_commands() -> Mapping[str, str]:
    """Register commands of the `worldr1` program: `name -> "module:click_command"`.

    The module is imported for `worldr1 --help`: keep it light and import torch inside the command's body.
    """
    return {}


@hookspec
def worldr1_register_aliases() -> Mapping[str, Mapping[str, str]]:
    """Keep old names of renamed components working: `kind -> {old name: new name}`.

    The kind is spelled as in `worldr1 plugins`, e.g. `"reward"` or `"command"`; the new name must be registered by the
    same plugin. An old name warns wherever it is used, and is not listed.
    """
    return {}
