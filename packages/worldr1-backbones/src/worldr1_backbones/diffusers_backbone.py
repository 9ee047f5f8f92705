"""Any diffusers text-to-video pipeline as a backbone, unmodified: the base of our backbones and of third parties'.

A subclass names the pipeline, its guidance rule, its latent layout and its LoRA targets; the rest is here.
"""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldr1_backbones import adapters
from worldr1_backbones.guidance import stacked_passes
from worldr1_backbones.loading import component_config, load_pipeline, load_scheduler, read_index
from worldr1_backbones.replay import CallRecorder, check_guidance, output_tensor, replace_sample, swapped, without_steps
from worldr1_backbones.video_encoding import check_frames
from worldr1_core.backbone import AdapterSpec, Backbone, Conditioning, LatentGeometry, Rollout
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.log import get_logger
from worldr1_core.policy import PolicyRun, PolicyScheduler, PolicyStep
from worldr1_core.weights_source import WeightsSource

log = get_logger(__name__)

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class LatentLayout:
    """Relation between the sizes of a model's latent and of its video.

    Attributes:
        channels: C of the latent.
        temporal_stride: Video frames from one latent frame to the next.
        spatial_stride: Video pixels per latent pixel, along each side.
        patch: Latent frames, rows and columns of one token of the denoiser. Rows and columns must fill whole patches;
            missing frames are padded in front.
    """

    channels: int
    temporal_stride: int
    spatial_stride: int
    patch: tuple[int, int, int] = (1, 1, 1)


class DiffusersConfig(ComponentConfig):
    """Options of every diffusers backbone; subclasses set the model's own defaults."""

    path: str = Field(min_length=1, description="Hub id, or a local folder in diffusers' layout.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub; its default branch if left out.")
    local_files_only: bool = Field(False, description="Never ask the network.")
    adapter: str | None = Field(None, description="Folder of a trained LoRA that is put on the model.")
    fused_adapter: str | None = Field(
        None,
        description="Folder of a LoRA that is fused into the weights first; a new adapter is trained on top of it.",
    )
    height: int = Field(480, ge=16, le=4096, description="Pixel rows of the video.")
    width: int = Field(832, ge=16, le=4096, description="Pixel columns of the video.")
    num_frames: int = Field(81, ge=1, le=1025, description="Frames of the video.")
    fps: float = Field(16.0, gt=0, le=120, description="Frames a second at which the model was trained.")
    guidance_scale: float = Field(5.0, ge=0, le=50, description="Classifier-free guidance; none at 1 or below.")
    negative_prompt: str = Field("", description="What guidance leads away from.")
    max_sequence_length: int = Field(512, ge=1, le=4096, description="Text tokens; longer prompts are cut.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of the weights: auto is bfloat16 on a GPU and float32 on the CPU."
    )
    offload: Literal["none", "text-encoder", "model", "sequential"] = Field(
        "none",
        description="What waits in the CPU's memory until it is needed: nothing, the text encoder (best for training), "
        "every model of the pipeline, or every layer (slowest, smallest, not for training). Needs a GPU.",
    )
    vae_tiling: bool = Field(False, description="Decode in tiles: less memory, slight seams.")
    decode_batch_size: int = Field(
        1, ge=1, le=1024, description="Videos decoded together: more is faster for small videos and takes more memory."
    )


class DiffusersBackbone(Backbone):
    """A diffusers text-to-video pipeline behind the backbone interface; the pipeline itself is never changed.

    Subclasses set the class attributes below, `layout` and a `Config`. Weights are loaded on first use.
    """

    Config: ClassVar[type[ComponentConfig]] = DiffusersConfig
    config: Any

    pipeline_class: ClassVar[str]
    """Name of the pipeline class in diffusers; `model_index.json` must name it too."""
    denoiser_names: ClassVar[tuple[str, ...]] = ("transformer",)
    """Components that may predict noise or velocity; those that a checkpoint lacks are left out."""
    embeddings: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    """What the pipeline's `encode_prompt` returns, as arguments of its call."""
    guidance_rule: ClassVar[Callable[[Sequence[Tensor], float], Tensor]] = staticmethod(stacked_passes)
    """How the pipeline combines the denoiser's answers."""
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    """Linear layers that an adapter goes on."""
    shared_arguments: ClassVar[frozenset[str]] = frozenset()
    """Tensor arguments of the denoiser that belong to no single sample of the batch."""
    dtypes: ClassVar[Mapping[str, str]] = {}
    """Components whose weights have a type of their own, whatever the options say."""

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        if self.config.offload != "none" and torch.device(device).type == "cpu":
            raise UserError(
                f"offload {self.config.offload!r} moves weights between a GPU and the CPU's memory, and the device is "
                f"{device!r}. Set offload to none, or choose a GPU."
            )
        self._blank: dict[str, Tensor] = {}
        self._base: str | None = None
        """Digest of the fused adapter."""

    # What a subclass may change

    @abstractmethod
    def layout(self) -> LatentLayout:
        """Layout of the latents, from `component_config`; no weights are needed."""

    def call_options(self) -> dict[str, Any]:
        """Arguments of the pipeline's call beside embeddings, latents and steps."""
        config = self.config
        return {
            "height": config.height,
            "width": config.width,
            "num_frames": config.num_frames,
            "guidance_scale": config.guidance_scale,
        }

    def scheduler_changes(self) -> dict[str, Any]:
        """Options of the checkpoint's scheduler that are changed, e.g. the flow shift."""
        return {}

    def guide(self, outputs: Sequence[Tensor], module: str) -> Tensor:
        """Combine the denoiser's outputs at one step, as the pipeline does.

        Args:
            outputs: One tensor per denoiser call, in order.
            module: The denoiser's name.
        """
        return type(self).guidance_rule(outputs, self.config.guidance_scale)

    def before_decoding(self, latents: Tensor) -> Tensor:
        """Transform latents between the last step and decoding, as the pipeline does; no change by default."""
        return latents

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents `(B, C, T, H, W)` of the VAE as the denoisers see them: the inverse of what the pipeline decodes.

        `encode_video` needs it. `worldr1_backbones.video_encoding` has the usual rules.
        """
        raise UserError(
            f"{type(self).__name__} does not say how latents of its VAE are normalised, so that it cannot encode "
            "videos. Override normalise."
        )

    # Configuration and weights

    @functools.cached_property
    def source(self) -> WeightsSource:
        """Where the checkpoint is."""
        return WeightsSource(self.config.path, self.config.revision, self.config.local_files_only)

    @functools.cached_property
    def index(self) -> dict[str, Any]:
        """The checkpoint's `model_index.json`."""
        return read_index(self.source, self.pipeline_class)

    def component_config(self, name: str) -> dict[str, Any]:
        """Configuration of a component, defaults filled in, without its weights.

        Raises:
            WeightsError: It is missing, or the checkpoint is of another architecture.
        """
        return component_config(self.source, self.index, name)

    @functools.cached_property
    def pipeline(self) -> Any:
        """The loaded pipeline, an ordinary diffusers object.

        Raises:
            UserError: The model cannot make the size or number of frames that the options ask for.
            WeightsError: The weights cannot be loaded.
        """
        self.geometry  # noqa: B018 - a size that does not fit is an error before gigabytes are fetched
        kinds = {name: DTYPES[kind] for name, kind in self.dtypes.items()}
        with torch.random.fork_rng(devices=[]):
            pipeline = load_pipeline(self.source, self.index, self.dtype, kinds)
        if self.config.vae_tiling:
            pipeline.vae.enable_tiling()
        denoisers = self._denoisers_of(pipeline)
        if self.config.fused_adapter is not None:
            self._base = adapters.fuse_adapter(pipeline, denoisers, self.config.fused_adapter)
        if self.config.adapter is not None:
            adapters.load_adapter(pipeline, denoisers, self.config.adapter, base=self._base)
        self._place(pipeline)
        log.info("backbone loaded", path=self.config.path, dtype=str(self.dtype), device=self.device)
        return pipeline

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        if self.config.dtype != "auto":
            return DTYPES[self.config.dtype]
        return torch.float32 if torch.device(self.device).type == "cpu" else torch.bfloat16

    def _place(self, pipeline: Any) -> None:
        if self.config.offload == "model":
            pipeline.enable_model_cpu_offload(device=self.device)
        elif self.config.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=self.device)
        else:
            waiting = set(_text_encoders(pipeline)) if self.config.offload == "text-encoder" else set()
            for name, component in pipeline.components.items():
                if isinstance(component, torch.nn.Module) and name not in waiting:
                    component.to(self.device)

    @functools.cached_property
    def geometry(self) -> LatentGeometry:
        """See `Backbone.geometry`; reads configuration files, not weights."""
        layout, config = self.layout(), self.config
        stride_t, stride = layout.temporal_stride, layout.spatial_stride
        if (config.num_frames - 1) % stride_t:
            raise UserError(
                f"num_frames must be a multiple of {stride_t} plus 1 for this model, received {config.num_frames!r}. "
                f"Nearest: {_nearest(config.num_frames - 1, stride_t, 0, 1)}."
            )
        for name, patch in (("height", layout.patch[1]), ("width", layout.patch[2])):
            size, multiple = getattr(config, name), stride * patch
            if size % multiple:
                nearest = _nearest(size, multiple, multiple, 0)
                raise UserError(
                    f"{name} must be a multiple of {multiple} for this model, received {size!r}. Nearest: {nearest}."
                )
        frames = (config.num_frames - 1) // stride_t + 1
        return LatentGeometry(
            channels=layout.channels,
            num_frames=frames,
            height=config.height // stride,
            width=config.width // stride,
            video_frames=config.num_frames,
            video_height=config.height,
            video_width=config.width,
            temporal_stride=stride_t,
            spatial_stride=stride,
            leading_padding=-frames % layout.patch[0],
        )

    @property
    def fps(self) -> float:
        """See `Backbone.fps`."""
        return float(self.config.fps)

    @property
    def denoisers(self) -> Mapping[str, torch.nn.Module]:
        """See `Backbone.denoisers`."""
        return self._denoisers_of(self.pipeline)

    def _denoisers_of(self, pipeline: Any) -> dict[str, torch.nn.Module]:
        found = {name: getattr(pipeline, name, None) for name in self.denoiser_names}
        return {name: module for name, module in found.items() if module is not None}

    @functools.cached_property
    def base_scheduler(self) -> Any:
        """See `Backbone.base_scheduler`; needs no weights."""
        return load_scheduler(self.source, self.index, self.scheduler_changes())

    # Prompts

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """See `Backbone.encode`."""
        if isinstance(prompts, str) or not prompts:
            raise UserError(f"encode needs a list of at least one prompt, received {prompts!r}.")
        with self._text_encoder_on_device():
            values = self.pipeline.encode_prompt(
                prompt=list(prompts),
                negative_prompt=[self.config.negative_prompt] * len(prompts),
                do_classifier_free_guidance=self.config.guidance_scale > 1,
                num_videos_per_prompt=1,
                max_sequence_length=self.config.max_sequence_length,
                device=torch.device(self.device),
            )
        named = zip(self.embeddings, values, strict=True)
        tensors = {name: value for name, value in named if isinstance(value, Tensor)}
        self._blank = {name: torch.zeros_like(value[:1]) for name, value in tensors.items()}
        return Conditioning(tuple(prompts), tensors)

    @contextmanager
    def _text_encoder_on_device(self) -> Iterator[None]:
        encoders = _text_encoders(self.pipeline) if self.config.offload == "text-encoder" else {}
        try:
            for module in encoders.values():
                module.to(self.device)
            yield
        finally:
            for module in encoders.values():
                module.to("cpu")

    def _text_encoder_away(self) -> AbstractContextManager[None]:
        """Pipelines take their device from their first module, which must not be one that waits on the CPU."""
        waiting = _text_encoders(self.pipeline) if self.config.offload == "text-encoder" else {}
        return swapped(self.pipeline, **dict.fromkeys(waiting)) if waiting else nullcontext()

    # Sampling

    @torch.no_grad()
    def sample(
        self,
        conditioning: Conditioning,
        latents: Tensor,
        *,
        num_inference_steps: int,
        scheduler: PolicyScheduler | None = None,
        run: PolicyRun | None = None,
    ) -> Rollout:
        """See `Backbone.sample`."""
        if run is not None and scheduler is None:
            raise UserError("A run needs a policy scheduler. Make one with a sampler's make_scheduler(base_scheduler).")
        self._check_latents(latents, len(conditioning))
        inner = self._for_pipeline(run if run is not None else PolicyRun(), latents)
        chosen: Any = scheduler
        if chosen is None:
            chosen = type(self.base_scheduler).from_config(self.base_scheduler.config)
        else:
            chosen.run = inner
        recorder = CallRecorder(self.denoisers, scheduler, inner)
        try:
            with recorder.watching():
                answer = self._call(conditioning, latents, chosen, num_inference_steps, output_type="latent")
        finally:
            if scheduler is not None:
                scheduler.run = None
        if scheduler is not None and inner.steps:
            check_guidance(inner.steps[0], recorder.first_outputs, self.guide, scheduler)
        final = answer.float() if inner.final is None else inner.final
        self._check_finite(final, "latents")
        if run is not None:
            run.steps, run.final = inner.steps, inner.final
        return Rollout(self.from_pipeline(final), inner.steps)

    def _call(
        self,
        conditioning: Conditioning,
        latents: Tensor,
        scheduler: Any,
        steps: int,
        *,
        pipeline: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        """Call the pipeline with another scheduler; what it returns first."""
        tensors = {name: value.to(self.device) for name, value in conditioning.tensors.items()}
        call = self.pipeline if pipeline is None else pipeline
        with self._text_encoder_away(), swapped(self.pipeline, scheduler=scheduler):
            return call(
                **tensors,
                **self.call_options(),
                latents=self.to_pipeline(latents.to(self.device)),
                num_inference_steps=steps,
                return_dict=False,
                **options,
            )[0]

    def _for_pipeline(self, run: PolicyRun, latents: Tensor) -> PolicyRun:
        """The run with its tensors in the pipeline's layout, and nothing recorded yet."""
        initial, delta = self.to_pipeline(latents.to(self.device)), run.step_delta
        if delta is not None:
            self._check_latents(delta, len(latents), "step_delta")
            delta = self.to_pipeline(delta.to(self.device))
        return replace(run, initial=initial, step_delta=delta, steps=[], calls=[], final=None)

    def _check_latents(self, latents: Tensor, batch_size: int, name: str = "latents") -> None:
        expected = (batch_size, *self.geometry.shape)
        if tuple(latents.shape) != expected:
            raise UserError(f"{name} must be {expected} (B, C, T, H, W), received {tuple(latents.shape)}.")
        if latents.dtype != torch.float32:
            raise UserError(f"{name} must be float32, received {latents.dtype}.")
        if bad := _not_finite(latents):
            raise UserError(f"{name} must be finite, received NaN or infinite values in samples {bad}.")

    def _check_finite(self, values: Tensor, what: str) -> None:
        if bad := _not_finite(values):
            raise WorldR1Error(
                f"The model gave NaN or infinite {what} in samples {bad} of {len(values)} (dtype {self.dtype}). "
                "If dtype is float16, take bfloat16 or float32; else the checkpoint or the adapter is broken."
            )

    # Training

    def predict(self, step: PolicyStep, sample: Tensor | None = None) -> Tensor:
        """See `Backbone.predict`."""
        if not step.calls:
            raise UserError("The step has no denoiser calls. Sample with record=True in the PolicyRun.")
        calls = step.calls
        if sample is not None:
            calls = tuple(replace_sample(call, step.sample, sample) for call in calls)
        outputs = [output_tensor(self.denoisers[call.module](*call.args, **call.kwargs)) for call in calls]
        return self.guide(outputs, step.calls[0].module).float()

    def select_step(self, step: PolicyStep, rows: Sequence[int]) -> PolicyStep:
        """See `Backbone.select_step`."""
        return step.select(rows, self.shared_arguments)

    def replace_rows(self, step: PolicyStep, other: PolicyStep, rows: Sequence[int]) -> PolicyStep:
        """See `Backbone.replace_rows`."""
        return step.with_rows(other, rows, self.shared_arguments)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `Backbone.set_gradient_checkpointing`."""
        adapters.set_gradient_checkpointing(self.denoisers, enabled)

    # Decoding

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """See `Backbone.decode`; the pipeline's own code decodes, `decode_batch_size` videos together."""
        return self._decode(latents, self.pipeline).cpu()

    def decode_with_gradient(self, latents: Tensor) -> Tensor:
        """See `Backbone.decode_with_gradient`; the gradient of a value that a decoder clamps is 0."""
        undecorated = getattr(type(self.pipeline).__call__, "__wrapped__", None)  # below torch.no_grad
        if undecorated is None:
            return super().decode_with_gradient(latents)
        return self._decode(latents, functools.partial(undecorated, self.pipeline))

    def _decode(self, latents: Tensor, pipeline: Callable[..., Any]) -> Tensor:
        self._check_latents(latents, len(latents))
        if not self._blank:
            self.encode([""])
        empty = without_steps(self.base_scheduler)
        options: dict[str, Any] = {"output_type": "pt", "pipeline": pipeline}
        if "generator" in inspect.signature(self.pipeline.__call__).parameters:
            options["generator"] = torch.Generator().manual_seed(0)
        videos = [
            self._call(self._blank_prompts(len(part)), self.before_decoding(part), empty, 2, **options).float()
            for part in latents.split(self.config.decode_batch_size)
        ]
        decoded = torch.cat(videos)
        self._check_finite(decoded, "frames")
        return decoded

    def _blank_prompts(self, count: int) -> Conditioning:
        """Prompts of a pipeline call that only decodes."""
        return Conditioning(
            ("",) * count, {name: value.expand(count, *value.shape[1:]) for name, value in self._blank.items()}
        )

    @torch.no_grad()
    def encode_video(self, frames: Tensor) -> Tensor:
        """See `Backbone.encode_video`; the mode of the VAE's posterior, one video after another.

        Where the latent is padded in front, its first frame is repeated, as in the training of CogVideoX 1.5.
        """
        check_frames(frames, self.geometry)
        encoded = torch.cat([self._encode_one(frames[i : i + 1]) for i in range(len(frames))])
        first = encoded[:, :, :1].expand(-1, -1, self.geometry.leading_padding, -1, -1)
        latents = torch.cat([first, encoded], dim=2)
        self._check_finite(latents, "latents of a video")
        self._check_latents(latents, len(frames), "latents of a video")
        return latents

    def _encode_one(self, frames: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels = (2 * frames.transpose(1, 2) - 1).to(self.device, vae.dtype)
        posterior = vae.encode(pixels, return_dict=False)[0]
        return self.normalise(posterior.mode().float())

    # Adapters

    def add_adapter(self, spec: AdapterSpec) -> None:
        """See `Backbone.add_adapter`."""
        if self.config.offload == "sequential":
            raise UserError("offload 'sequential' leaves no weights to train. Choose none, text-encoder or model.")
        adapters.add_adapter(self.denoisers, spec, self.lora_targets)

    def adapter_disabled(self) -> AbstractContextManager[None]:
        """See `Backbone.adapter_disabled`."""
        return adapters.adapters_disabled(self.denoisers)

    def save_adapter(self, folder: str | Path) -> None:
        """See `Backbone.save_adapter`."""
        pipeline = self.pipeline
        adapters.save_adapter(type(pipeline), self.denoisers, folder, base=self._base)

    def load_adapter(self, folder: str | Path, *, trainable: bool = False) -> None:
        """See `Backbone.load_adapter`."""
        pipeline = self.pipeline  # loading it decides what is fused
        adapters.load_adapter(pipeline, self.denoisers, folder, trainable=trainable, base=self._base)


def _text_encoders(pipeline: Any) -> dict[str, torch.nn.Module]:
    return {
        name: module
        for name, module in pipeline.components.items()
        if name.startswith("text_encoder") and isinstance(module, torch.nn.Module)
    }


def _nearest(size: int, multiple: int, least: int, offset: int) -> str:
    below = max(size // multiple * multiple, least)
    return f"{below + offset} or {below + multiple + offset}"


def _not_finite(values: Tensor) -> list[int]:
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    return [row for row, good in enumerate(finite.tolist()) if not good]
