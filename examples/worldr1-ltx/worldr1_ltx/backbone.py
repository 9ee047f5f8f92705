"""LTX-Video as a World-R1 backbone: an unmodified diffusers pipeline."""

from pydantic import Field
from worldr1_backbones.diffusers_backbone import DiffusersBackbone, DiffusersConfig, LatentLayout


class LTXBackbone(DiffusersBackbone):
    """LTX-Video text-to-video: latents at 1/32 of the size and 1/8 of the frames, packed into tokens."""

    class Config(DiffusersConfig):
        """Options of `ltx` in a manifest."""

        path: str = Field("Lightricks/LTX-Video", min_length=1, description="Hub id or local folder.")
        fps: float = Field(24.0, gt=0, le=120, description="Frames a second; the model is told.")
        guidance_scale: float = Field(3.0, ge=0, le=50, description="Classifier-free guidance; none at 1 or below.")
        max_sequence_length: int = Field(128, ge=1, le=4096, description="Text tokens; longer prompts are cut.")

    pipeline_class = "LTXPipeline"
    embeddings = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")

    def layout(self):
        vae, channels = self.component_config("vae"), self.component_config("transformer")["in_channels"]
        scale = 2 ** sum(vae["spatio_temporal_scaling"])
        return LatentLayout(channels, vae["patch_size_t"] * scale, vae["patch_size"] * scale)

    def call_options(self):
        return {**super().call_options(), "frame_rate": self.config.fps}

    def to_pipeline(self, latents):
        return latents.flatten(2).transpose(1, 2)

    def from_pipeline(self, latents):
        return latents.transpose(1, 2).unflatten(2, self.geometry.shape[1:])
