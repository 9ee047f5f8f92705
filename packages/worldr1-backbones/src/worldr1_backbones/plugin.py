"""Components of worldr1-backbones: text-to-video backbones, samplers, noise conditioners, the tiny world's rewards."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_backbones() -> dict[str, str]:
    """Wan 2.1 and 2.2, CogVideoX, and the tiny Wan model that comes with this package, sound and flawed."""
    return {
        "wan": "worldr1_backbones.wan:WanBackbone",
        "cogvideox": "worldr1_backbones.cogvideox:CogVideoXBackbone",
        "tiny-wan": "worldr1_backbones.wan:TinyWanBackbone",
        "tiny-wan-flawed": "worldr1_backbones.wan:FlawedTinyWanBackbone",
    }


@hookimpl
def worldr1_register_samplers() -> dict[str, str]:
    """Policies for flow models (`flow-sde`, `cps`) and for diffusion models (`ddim-sde`)."""
    return {
        "flow-sde": "worldr1_backbones.samplers.flow_sde:FlowSDESampler",
        "cps": "worldr1_backbones.samplers.cps:CPSSampler",
        "ddim-sde": "worldr1_backbones.samplers.ddim_sde:DDIMSDESampler",
    }


@hookimpl
def worldr1_register_noise_conditioners() -> dict[str, str]:
    """Plain Gaussian noise, and noise that the commanded camera path carries along."""
    return {
        "gaussian": "worldr1_core.gaussian_noise:GaussianNoise",
        "camera-warp": "worldr1_backbones.noise.camera_warp:CameraWarpNoise",
    }


@hookimpl
def worldr1_register_rewards() -> dict[str, str]:
    """Rewards of the tiny world: agreement with the caption, and a pixel count that checks it independently."""
    return {
        "tiny-text-alignment": "worldr1_backbones.tiny.text_alignment:TinyTextAlignmentReward",
        "tiny-object-pixels": "worldr1_backbones.tiny.object_pixels:TinyObjectPixelsReward",
    }


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """`worldr1 generate`."""
    return {"generate": "worldr1_backbones.cli:generate"}
