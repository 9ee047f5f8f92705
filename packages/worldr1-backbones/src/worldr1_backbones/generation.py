"""The Python front door of generation: prompts to videos with a backbone, noise conditioner and sampler."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, overload

from worldr1_backbones.backbone_choice import backbone_spec
from worldr1_core.backbone import Backbone
from worldr1_core.camera.formats import load_trajectory
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.compose import build, resolve_device
from worldr1_core.errors import UserError, shorten
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.generation_components import GenerationComponents, choose_component, compose_generation
from worldr1_core.manifest import Manifest, load_manifest, parse_manifest
from worldr1_core.noise import NoiseConditioner
from worldr1_core.pipeline import GeneratedVideo, VideoPipeline, VideoRequest
from worldr1_core.plugins import installed
from worldr1_core.registry import Registry
from worldr1_core.sampler import Sampler
from worldr1_core.video import Video

DEFAULT_MANIFEST = "default.yaml"

ComponentLike = str | Mapping[str, Any]


def read_generation_manifest(path: str | Path | None, registry: Registry) -> Manifest:
    """The manifest at `path`, or the shipped default (the embedded tiny world).

    Raises:
        ManifestError: It does not validate.
    """
    if path is not None:
        return load_manifest(path, registry)
    text = resources.files("worldr1_backbones").joinpath(DEFAULT_MANIFEST).read_text(encoding="utf-8")
    return parse_manifest(text, registry, name=f"worldr1_backbones/{DEFAULT_MANIFEST}")


class Generator:
    """Generates videos from prompts, as `worldr1 generate` does: the same prompt and seed give the same frames.

    `from_pretrained` takes names and paths, `from_manifest` a manifest; the constructor takes objects.

    Args:
        backbone: Text-to-video model; its weights are loaded when they are first needed.
        noise: Noise conditioner; plain Gaussian noise if `None`.
        sampler: Its deterministic steps denoise; the checkpoint's own scheduler if `None`.
        num_inference_steps: Denoising steps, >= 1, instead of the sampler's (50 without a sampler).

    Raises:
        UserError: `num_inference_steps` is out of range, or an argument is not a component of its kind.

    Example:
        >>> from worldr1_backbones import Generator
        >>> generator = Generator.from_pretrained("tiny-wan", num_inference_steps=2)
        >>> video = generator("Camera push in. A red box in a green room with checker walls.", seed=7)
        >>> video.frames.shape
        torch.Size([9, 3, 64, 64])
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        noise: NoiseConditioner | None = None,
        sampler: Sampler | None = None,
        num_inference_steps: int | None = None,
    ) -> None:
        for value, kind in ((backbone, Backbone), (noise, NoiseConditioner), (sampler, Sampler)):
            if not isinstance(value, kind) and (value is not None or kind is Backbone):
                raise UserError(
                    f"Generator needs a {kind.__name__} object here, received {shorten(value)}. "
                    "Generator.from_pretrained takes names and paths."
                )
        is_count = isinstance(num_inference_steps, int) and not isinstance(num_inference_steps, bool)
        if num_inference_steps is not None and not (is_count and 1 <= num_inference_steps <= 1000):
            raise UserError(f"num_inference_steps must be a number from 1 to 1000, received {num_inference_steps!r}.")
        self._components = GenerationComponents(backbone, sampler, noise or GaussianNoise())
        self.num_inference_steps = num_inference_steps or self._components.num_inference_steps

    @classmethod
    def from_pretrained(
        cls,
        backbone: str = "tiny-wan",
        *,
        adapter: str | Path | None = None,
        noise: ComponentLike | NoiseConditioner | None = None,
        sampler: ComponentLike | Sampler | None = None,
        num_inference_steps: int | None = None,
        device: str = "auto",
        **options: Any,
    ) -> Generator:
        """Create a generator for a model; the defaults are those of `worldr1 generate` without a manifest.

        Args:
            backbone: A registered name, or a diffusers checkpoint: a local folder or an id on the hub whose pipeline a
                registered backbone runs.
            adapter: Folder of a trained adapter (LoRA), e.g. `runs/tiny/adapter`.
            noise: Registered name (`"gaussian"` for plain noise), mapping with `name` and options, class, or object;
                `camera-warp` if `None`.
            sampler: As for `noise`; `flow-sde` with 20 steps if `None`. Diffusion models (CogVideoX) need `ddim-sde`.
            num_inference_steps: Denoising steps, instead of the sampler's.
            device: Torch device, or `"auto"` for CUDA if there is one.
            **options: Options of the backbone, e.g. `num_frames=33, guidance_scale=4.0`.

        Raises:
            UnknownNameError: A name is not registered.
            UserError: An option is unknown or out of range, or no registered backbone runs the checkpoint.
            WeightsError: The checkpoint or the adapter cannot be read.
        """
        registry, device = installed().registry, resolve_device(device)
        default = read_generation_manifest(None, registry)
        noise_choice = default.noise if noise is None else noise
        sampler_choice = default.sampler if sampler is None else sampler
        generator = cls(
            build(backbone_spec(backbone, registry, options), "backbone", Backbone, registry, device),
            noise=choose_component(noise_choice, "noise conditioner", NoiseConditioner, registry, device),
            sampler=choose_component(sampler_choice, "sampler", Sampler, registry, device),
            num_inference_steps=num_inference_steps,
        )
        if adapter is not None:
            generator.backbone.load_adapter(adapter)
        return generator

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest | str | Path | None = None,
        *,
        registry: Registry | None = None,
        num_inference_steps: int | None = None,
    ) -> Generator:
        """Create a generator with the components of a manifest.

        Args:
            manifest: A manifest or its file; the shipped default if `None`. It names `backbone`, and may name `noise`
                (else plain Gaussian noise) and `sampler` (else the checkpoint's own scheduler).
            registry: Registry of names; all installed components if `None`.
            num_inference_steps: Denoising steps, instead of the sampler's.

        Raises:
            ManifestError: The manifest does not validate, or names no backbone.
            UserError: A component cannot be built.
        """
        registry = installed().registry if registry is None else registry
        if not isinstance(manifest, Manifest):
            manifest = read_generation_manifest(manifest, registry)
        parts = compose_generation(manifest, registry, resolve_device(manifest.device))
        return cls(
            parts.backbone, noise=parts.conditioner, sampler=parts.sampler, num_inference_steps=num_inference_steps
        )

    @property
    def backbone(self) -> Backbone:
        """The text-to-video model."""
        return self._components.backbone

    @functools.cached_property
    def pipeline(self) -> VideoPipeline:
        """Noise, encoding, sampling and decoding as separate steps; made when it is first needed.

        Raises:
            UserError: The sampler is for another family of models than the backbone.
        """
        return self._components.make_pipeline(num_inference_steps=self.num_inference_steps)

    @overload
    def __call__(
        self,
        prompts: str,
        *,
        seed: int = 0,
        num_videos: None = None,
        trajectory: CameraTrajectory | str | Path | None = None,
        fps: float | None = None,
        batch_size: int = 1,
    ) -> Video: ...

    @overload
    def __call__(
        self,
        prompts: str,
        *,
        seed: int = 0,
        num_videos: int,
        trajectory: CameraTrajectory | str | Path | None = None,
        fps: float | None = None,
        batch_size: int = 1,
    ) -> list[Video]: ...

    @overload
    def __call__(
        self,
        prompts: list[str] | tuple[str, ...],
        *,
        seed: int = 0,
        num_videos: int | None = None,
        trajectory: CameraTrajectory | str | Path | None = None,
        fps: float | None = None,
        batch_size: int = 1,
    ) -> list[Video]: ...

    def __call__(
        self,
        prompts: str | list[str] | tuple[str, ...],
        *,
        seed: int = 0,
        num_videos: int | None = None,
        trajectory: CameraTrajectory | str | Path | None = None,
        fps: float | None = None,
        batch_size: int = 1,
    ) -> Video | list[Video]:
        """Generate videos.

        Args:
            prompts: A prompt, or a list of prompts; camera words ("Camera push in, then pan left.") command the path.
            seed: Seed of the first video of every prompt, 0 to 2^63 - 1.
            num_videos: Videos per prompt, >= 1; video k of a prompt has seed + k.
            trajectory: Commanded path or its file, instead of the prompts' camera words: one pose per frame.
            fps: Frame rate of the videos, instead of the model's.
            batch_size: Videos that are denoised together, >= 1; changes frames by rounding only.

        Returns:
            One video for one prompt; a list where `prompts` is a list or `num_videos` is given, prompt by prompt.

        Raises:
            TrajectoryError: A prompt commands more moves than the video has room for, or the trajectory does not fit.
            UserError: A prompt is empty, or an argument is out of range.
        """
        count = 1 if num_videos is None else num_videos
        requests = self.make_requests(prompts, seed=seed, num_videos=count, trajectory=trajectory)
        videos = [made.video for made in self.generate(requests, batch_size=batch_size, fps=fps)]
        return videos[0] if isinstance(prompts, str) and num_videos is None else videos

    def generate(
        self, requests: Sequence[VideoRequest], *, batch_size: int = 1, fps: float | None = None
    ) -> Iterator[GeneratedVideo]:
        """Generate videos one after the other, each with its request and commanded path.

        Args:
            requests: Prompts, seeds and paths; every commanded path is checked before the first video is made.
            batch_size: Videos that are denoised together, >= 1.
            fps: Frame rate of the videos, instead of the model's.

        Raises:
            UserError: A request does not fit the model.
        """
        return self.pipeline.generate(requests, batch_size=batch_size, fps=fps)

    def make_requests(
        self,
        prompts: str | list[str] | tuple[str, ...],
        *,
        seed: int = 0,
        num_videos: int = 1,
        trajectory: CameraTrajectory | str | Path | None = None,
    ) -> list[VideoRequest]:
        """Return the requests of a call with these arguments; see `__call__`."""
        for name, value, low, high in (("num_videos", num_videos, 1, 1000), ("seed", seed, 0, 2**63 - 1)):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UserError(f"{name} must be a whole number from {low} to {high}, received {value!r}.")
        if isinstance(trajectory, str | Path):
            trajectory = load_trajectory(trajectory, num_frames=self.backbone.geometry.video_frames)
        texts = check_prompts([prompts] if isinstance(prompts, str) else prompts)
        return [VideoRequest(text, seed + k, trajectory) for text in texts for k in range(num_videos)]

    def load_adapter(self, folder: str | Path) -> None:
        """Load a trained adapter (LoRA in diffusers' layout) into the model.

        Raises:
            UserError: There is an adapter already.
            WeightsError: The folder has none, or it is for another architecture.
        """
        self.backbone.load_adapter(folder)


def check_prompts(prompts: Any) -> list[str]:
    """A list of prompts, none of them empty.

    Raises:
        UserError: It is no list of texts, or a text is empty.
    """
    texts = list(prompts) if isinstance(prompts, list | tuple) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"prompts must be a text or a list of at least one text, received {shorten(prompts)}.")
    empty = [text for text in texts if not text.strip()]
    if empty:
        raise UserError(f"A prompt must not be empty, received {empty[0]!r}.")
    return texts
