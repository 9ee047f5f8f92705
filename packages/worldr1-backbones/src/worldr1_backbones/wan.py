"""Wan 2.1 (1.3B, 14B) and Wan 2.2 (5B, A14B) text-to-video models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from worldr1_backbones.diffusers_backbone import DiffusersBackbone, DiffusersConfig, LatentLayout
from worldr1_backbones.guidance import separate_passes
from worldr1_backbones.tiny import CHECKPOINT, FLAWED_ADAPTER
from worldr1_backbones.video_encoding import normalise_by_channel
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.video import Video


class WanConfig(DiffusersConfig):
    """Options of the Wan models."""

    path: str = Field("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", min_length=1, description="Hub id or local folder.")
    guidance_scale_2: float | None = Field(
        None,
        ge=0,
        le=50,
        description="Guidance of the low-noise transformer (Wan2.2 A14B); guidance_scale if left out.",
    )
    flow_shift: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Shift of the schedule towards noise; if left out, 3.0 below 720 rows and 5.0 from there on.",
    )


class WanBackbone(DiffusersBackbone):
    """Wan text-to-video: 2.1 with 1.3B or 14B, 2.2 with 5B (per-token timesteps) or A14B (two transformers)."""

    class Config(WanConfig):
        """Options of `wan` in a manifest."""

    config: WanConfig
    pipeline_class = "WanPipeline"
    denoiser_names = ("transformer", "transformer_2")
    guidance_rule: ClassVar[Callable[[Sequence[Tensor], float], Tensor]] = staticmethod(separate_passes)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
    dtypes: ClassVar[Mapping[str, str]] = {"vae": "float32"}  # as its model card says: bfloat16 costs detail

    def layout(self) -> LatentLayout:
        """From the transformer's and the VAE's configuration."""
        vae, transformer = self.component_config("vae"), self.component_config(self._first)
        return LatentLayout(
            channels=transformer["in_channels"],
            temporal_stride=vae["scale_factor_temporal"],
            spatial_stride=vae["scale_factor_spatial"],
            patch=tuple(transformer["patch_size"]),
        )

    @property
    def _first(self) -> str:
        return "transformer" if (self.index.get("transformer") or [None])[0] is not None else "transformer_2"

    @property
    def _has_boundary(self) -> bool:
        return self.index.get("boundary_ratio") is not None

    def call_options(self) -> dict[str, Any]:
        """Adds the second guidance scale where there are two transformers."""
        if self.config.guidance_scale_2 is None:
            return super().call_options()
        if not self._has_boundary:
            raise UserError(
                f"guidance_scale_2 is for checkpoints with two transformers, and {self.config.path!r} has one. "
                "Leave it out."
            )
        return {**super().call_options(), "guidance_scale_2": self.config.guidance_scale_2}

    def guide(self, outputs: Sequence[Tensor], module: str) -> Tensor:
        """Each transformer has its own scale."""
        second = self.config.guidance_scale_2 if module == "transformer_2" and self._has_boundary else None
        return separate_passes(outputs, self.config.guidance_scale if second is None else second)

    def normalise(self, latents: Tensor) -> Tensor:
        """Every channel has its own mean and scale."""
        return normalise_by_channel(latents, self.pipeline.vae.config)

    def scheduler_changes(self) -> dict[str, Any]:
        """The flow shift, under the name that the checkpoint's scheduler has for it."""
        return self._shift(5.0 if self.config.height >= 720 else 3.0)

    def _shift(self, default: float | None) -> dict[str, Any]:
        shift = default if self.config.flow_shift is None else self.config.flow_shift
        named = self.index.get("scheduler") or [None, ""]
        return {} if shift is None else {"shift" if named[1].startswith("FlowMatch") else "flow_shift": shift}


class TinyWanBackbone(WanBackbone):
    """The small Wan-native model of the tiny world that comes with this package: 64 x 64, 9 frames, runs on a CPU."""

    class Config(WanConfig):
        """Options of `tiny-wan` in a manifest."""

        path: str = Field(str(CHECKPOINT), min_length=1, description="Folder; the shipped checkpoint if left out.")
        height: int = Field(64, ge=16, le=4096, description="Pixel rows of the video.")
        width: int = Field(64, ge=16, le=4096, description="Pixel columns of the video.")
        num_frames: int = Field(9, ge=1, le=1025, description="Frames of the video.")
        fps: float = Field(8.0, gt=0, le=120, description="Frames a second at which videos are written.")
        guidance_scale: float = Field(2.0, ge=0, le=50, description="Classifier-free guidance; none at 1 or below.")
        max_sequence_length: int = Field(32, ge=1, le=4096, description="Text tokens; longer prompts are cut.")
        flow_shift: float | None = Field(
            None, gt=0, le=100, description="Shift of the schedule towards noise; the checkpoint's own if left out."
        )

    def scheduler_changes(self) -> dict[str, Any]:
        """The checkpoint's own shift stays unless the options name another."""
        return self._shift(None)

    def reference_clips(self, count: int, seed: int = 0) -> list[Clip]:
        """Renders of the tiny world with held-out captions, `9 x 64 x 64`."""
        from worldr1_backbones.tiny.data import make_clip, render_clip

        clips = [make_clip(index, seed, held_out=True) for index in range(count)]
        return [
            Clip(Video(render_clip(clip), fps=self.fps), clip.caption.text, name=f"tiny render {index}")
            for index, clip in enumerate(clips)
        ]


class FlawedTinyWanBackbone(TinyWanBackbone):
    """The tiny model as web footage would have made it: rooms bend, objects change, and camera words are often ignored.

    The shipped model after further training on clips of which half do not hold together in 3D, with camera words that
    name another path in a third of the captions. That training is an adapter, fused into the weights on loading.
    """

    class Config(TinyWanBackbone.Config):
        """Options of `tiny-wan-flawed` in a manifest."""

        fused_adapter: str | None = Field(
            str(FLAWED_ADAPTER), description="Folder of a LoRA that is fused into the weights first."
        )
