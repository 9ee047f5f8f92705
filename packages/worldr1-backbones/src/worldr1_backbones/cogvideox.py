"""CogVideoX text-to-video models: 1.5 (temporal patches of two frames) and 1.0."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import Field
from torch import Tensor

from worldr1_backbones.diffusers_backbone import DiffusersBackbone, DiffusersConfig, LatentLayout
from worldr1_backbones.loading import LOADING_ERRORS, read_json
from worldr1_backbones.video_encoding import normalise_by_factor


class CogVideoXBackbone(DiffusersBackbone):
    """CogVideoX text-to-video: a v-prediction diffusion model, for the sampler `ddim-sde`."""

    class Config(DiffusersConfig):
        """Options of `cogvideox` in a manifest; the defaults are those of 1.5-5B."""

        path: str = Field("zai-org/CogVideoX1.5-5B", min_length=1, description="Hub id or local folder.")
        height: int = Field(768, ge=16, le=4096, description="Pixel rows of the video; 480 for CogVideoX 1.0.")
        width: int = Field(1360, ge=16, le=4096, description="Pixel columns of the video; 720 for CogVideoX 1.0.")
        num_frames: int = Field(81, ge=1, le=1025, description="Frames of the video; 49 for CogVideoX 1.0.")
        guidance_scale: float = Field(6.0, ge=0, le=50, description="Classifier-free guidance; none at 1 or below.")
        max_sequence_length: int = Field(226, ge=1, le=4096, description="Text tokens; longer prompts are cut.")

    config: Config
    pipeline_class = "CogVideoXPipeline"
    shared_arguments = frozenset({"image_rotary_emb"})

    def layout(self) -> LatentLayout:
        """From the transformer's and the VAE's configuration."""
        vae, transformer = self.component_config("vae"), self.component_config("transformer")
        return LatentLayout(
            channels=transformer["in_channels"],
            temporal_stride=int(vae["temporal_compression_ratio"]),
            spatial_stride=2 ** (len(vae["block_out_channels"]) - 1),
            patch=(transformer["patch_size_t"] or 1, transformer["patch_size"], transformer["patch_size"]),
        )

    @functools.cached_property
    def base_scheduler(self) -> Any:
        """DDIM with the checkpoint's schedule, whichever scheduler it names: the DPM one draws noise of its own."""
        from diffusers import CogVideoXDDIMScheduler

        self.index  # noqa: B018 - the architecture is checked before the schedule is read
        config = read_json(self.source, "scheduler/scheduler_config.json")
        try:
            return CogVideoXDDIMScheduler.from_config(config)
        except LOADING_ERRORS as error:
            raise self.source.fail("scheduler", error) from error

    def call_options(self) -> dict[str, Any]:
        """Guidance is the same at every step: a scale that changes would not be in the replay."""
        return {**super().call_options(), "use_dynamic_cfg": False}

    def to_pipeline(self, latents: Tensor) -> Tensor:
        """`(B, C, T, H, W)` to `(B, T, C, H, W)`."""
        return latents.transpose(1, 2).contiguous()

    def from_pipeline(self, latents: Tensor) -> Tensor:
        """`(B, T, C, H, W)` to `(B, C, T, H, W)`."""
        return latents.transpose(1, 2).contiguous()

    def before_decoding(self, latents: Tensor) -> Tensor:
        """The pipeline keeps its latents in the embeddings' dtype."""
        return latents.to(self.dtype)

    def normalise(self, latents: Tensor) -> Tensor:
        """One scale for all channels."""
        return normalise_by_factor(latents, self.pipeline.vae.config)
