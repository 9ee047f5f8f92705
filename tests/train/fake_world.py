"""A complete plugin of a few hundred parameters: backbone, sampler and rewards, to train in seconds."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from worldr1_core import hookimpl
from worldr1_core.backbone import Backbone, Conditioning, LatentGeometry, Rollout
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.noise import InitialNoise, NoiseConditioner
from worldr1_core.placement import Placement
from worldr1_core.policy import PolicyScheduler
from worldr1_core.policy_step import DenoiserCall, Transition
from worldr1_core.reward import Requirement, Reward, Score
from worldr1_core.sampler import Sampler


class Denoiser(nn.Module):
    """Velocity of a latent `(B, 4, T, h, w)` with a switchable low-rank adapter."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter, self.leave = nn.Conv3d(4, 8, 1), nn.Conv3d(8, 4, 1)
            self.time, self.text = nn.Linear(1, 8), nn.Linear(4, 8)
        self.down, self.up, self.enabled = None, None, True
        self.checkpointing = False

    def add_adapter(self, rank, seed):
        self.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.down, self.up = nn.Linear(8, rank), nn.Linear(rank, 4, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden_states, timestep, encoder_hidden_states):
        if self.checkpointing and torch.is_grad_enabled():
            arguments = (hidden_states, timestep, encoder_hidden_states)
            return torch.utils.checkpoint.checkpoint(self._forward, *arguments, use_reentrant=False)
        return self._forward(hidden_states, timestep, encoder_hidden_states)

    def _forward(self, hidden_states, timestep, encoder_hidden_states):
        condition = self.time(timestep.view(-1, 1) / 1000) + self.text(encoder_hidden_states)
        inner = torch.tanh(self.enter(hidden_states) + condition[:, :, None, None, None])
        out = self.leave(inner)
        if self.up is not None and self.enabled:
            out = out + self.up(self.down(inner.movedim(1, -1))).movedim(-1, 1)
        return out


class FakeBackbone(Backbone):
    """Three frames of 8 x 8 pixels."""

    class Config(ComponentConfig):
        two_denoisers: bool = Field(False, description="Whether the second half of the schedule has its own.")
        num_frames: int = Field(3, ge=1, le=9, description="Frames.")

    def __init__(self, config=None, *, device="cpu", **options):
        super().__init__(config, device=device, **options)
        self._denoisers = {"transformer": Denoiser(0)}
        if self.config.two_denoisers:
            self._denoisers["transformer_2"] = Denoiser(1)
        for module in self._denoisers.values():
            module.requires_grad_(False)
        self.num_sampled = 0

    @property
    def geometry(self):
        frames = self.config.num_frames
        return LatentGeometry(4, frames, 4, 4, frames, 8, 8, 1, 2)

    @property
    def fps(self):
        return 8.0

    @property
    def denoisers(self):
        return self._denoisers

    @property
    def base_scheduler(self):
        return FlowSchedule()

    def encode(self, prompts):
        digests = [hashlib.sha256(prompt.encode()).digest()[:4] for prompt in prompts]
        return Conditioning(tuple(prompts), {"prompt_embeds": torch.tensor([list(d) for d in digests]) / 128.0 - 1})

    @torch.no_grad()
    def sample(self, conditioning, latents, *, num_inference_steps, scheduler=None, run=None):
        scheduler = FakePolicy() if scheduler is None else scheduler
        scheduler.run = run
        scheduler.set_timesteps(num_inference_steps)
        self.num_sampled += len(conditioning)
        for timestep in scheduler.timesteps:
            name = "transformer_2" if self.config.two_denoisers and timestep < 500 else "transformer"
            kwargs = {
                "hidden_states": latents,
                "timestep": timestep.expand(len(latents)),
                "encoder_hidden_states": conditioning.tensors["prompt_embeds"],
            }
            output = self._denoisers[name](**kwargs)
            if run is not None and run.is_recorded(scheduler.step_index):
                run.calls.append(DenoiserCall(name, (), kwargs))
            latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
        scheduler.run = None
        return Rollout(latents, [] if run is None else run.steps)

    def predict(self, step, sample=None):
        call = step.calls[0]
        kwargs = call.kwargs if sample is None else {**call.kwargs, "hidden_states": sample}
        return self._denoisers[call.module](*call.args, **kwargs).float()

    def select_step(self, step, rows):
        return step.select(rows)

    def decode(self, latents):
        return self.decode_with_gradient(latents).cpu()

    def decode_with_gradient(self, latents):
        pixels = torch.sigmoid(latents[:, :3].float()).movedim(1, 2)
        return pixels.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def add_adapter(self, spec):
        for module in self._denoisers.values():
            module.add_adapter(min(spec.rank, 4), spec.seed)

    @contextlib.contextmanager
    def adapter_disabled(self):
        for module in self._denoisers.values():
            module.enabled = False
        try:
            yield
        finally:
            for module in self._denoisers.values():
                module.enabled = True

    def save_adapter(self, folder):
        state = {name: p.detach().cpu() for name, p in self.trainable_parameters()}
        if not state:
            raise UserError("no adapter")
        Path(folder).mkdir(parents=True, exist_ok=True)
        torch.save(state, Path(folder) / "adapter.pt")

    def load_adapter(self, folder, *, trainable=False):
        state = torch.load(Path(folder) / "adapter.pt", weights_only=True)
        for name, module in self._denoisers.items():
            own = {key: value for key, value in state.items() if key.startswith(f"{name}.")}
            module.add_adapter(own[f"{name}.down.weight"].shape[0], 0)
            module.load_state_dict({key.removeprefix(f"{name}."): value for key, value in own.items()}, strict=False)

    def set_gradient_checkpointing(self, enabled):
        for module in self._denoisers.values():
            module.checkpointing = enabled


class CostlyWeights(FakeBackbone):
    """Counts how often its weights were asked for."""

    num_loaded: ClassVar[int] = 0

    @property
    def denoisers(self):
        CostlyWeights.num_loaded += 1
        return super().denoisers

    def add_adapter(self, spec):
        CostlyWeights.num_loaded += 1
        super().add_adapter(spec)


class BrokenPlacement(Placement):
    """A place whose environment cannot be made."""

    def connect(self, part):
        raise UserError("uv cannot make the environment")


class FlowSchedule:
    """A straight schedule in place of a diffusers scheduler."""

    def set_timesteps(self, num_inference_steps):
        self.sigmas = torch.linspace(1, 0, num_inference_steps + 1)
        self.timesteps = self.sigmas[:-1] * 1000


class FakePolicy(PolicyScheduler, FlowSchedule):
    """The reverse-time SDE with noise proportional to the level."""

    def transition(self, point, sample, model_output):
        sigma, dt = 0.7 * math.sqrt(point.noise_level), point.next_level - point.noise_level
        drift = sigma**2 / (2 * point.noise_level)
        mean = sample * (1 + drift * dt) + model_output * (1 + drift * (1 - point.noise_level)) * dt
        return Transition(mean, sigma * math.sqrt(-dt))

    def ode_step(self, point, sample, model_output):
        return sample + (point.next_level - point.noise_level) * model_output

    def noise_levels(self):
        return [float(sigma) for sigma in self.sigmas]


class FakeSampler(Sampler):
    """Makes the policy."""

    def make_scheduler(self, base):
        return FakePolicy()


class Brightness(Reward):
    """Mean of all pixels: surely rises under training."""

    def score(self, clip, inputs):
        return float(clip.video.frames.mean())

    def score_frames(self, frames, clips, inputs):
        return frames.flatten(1).mean(1)


class Redness(Reward):
    """Red above green."""

    def score(self, clip, inputs):
        frames = clip.video.frames
        return float(frames[:, 0].mean() - frames[:, 1].mean())

    def score_frames(self, frames, clips, inputs):
        return (frames[:, :, 0] - frames[:, :, 1]).flatten(1).mean(1)


class UpperBrightness(Reward):
    """Mean of the upper half, which says that it was earned there."""

    def score(self, clip, inputs):
        rows = clip.video.frames.mean((0, 1, 3))
        spatial_map = clip.video.frames.mean((0, 1))
        spatial_map = torch.where(torch.arange(len(rows))[:, None] < len(rows) // 2, spatial_map, torch.nan)
        return Score(float(rows[: len(rows) // 2].mean()), spatial_map=spatial_map)


class Gain(Reward):
    """How much brighter than what the model before training made."""

    requires = frozenset({Requirement.REFERENCE})

    def score(self, clip, inputs):
        if inputs.reference is None:
            raise ScoreUnavailable("no reference")
        return float(clip.video.frames.mean() - inputs.reference.frames.mean())

    def score_frames(self, frames, clips, inputs):
        before = torch.stack([found.reference.frames.mean() for found in inputs])
        return frames.flatten(1).mean(1) - before


class CameraAccuracy(Reward):
    """A share, as a metric of evaluation."""

    def score(self, clip, inputs):
        return float(clip.video.frames[:, 2].mean() > 0.5)


class Fragile(Reward):
    """Fails for samples of a rollout batch from a number on, or where an environment variable says so."""

    class Config(ComponentConfig):
        fails_from: int = Field(10**6, ge=0, le=10**6, description="Number of the sample.")

    def score(self, clip, inputs):
        number = int(clip.name.split()[-1]) if clip.name.split()[-1].isdigit() else 0
        if number >= self.config.fails_from or os.environ.get("FRAGILE_FAILS"):
            raise ScoreUnavailable("the reward server is gone")
        return float(clip.video.frames.mean())


class NegatedNoise(NoiseConditioner):
    """Plain noise with its sign turned: another start than the backbone's own, of the same distribution."""

    def draw(self, request, generator):
        geometry = request.geometry
        shape = (geometry.channels, geometry.num_frames, geometry.height, geometry.width)
        return InitialNoise(-torch.randn(shape, generator=generator))


@hookimpl
def worldr1_register_backbones():
    return {"fake": f"{__name__}:FakeBackbone"}


@hookimpl
def worldr1_register_samplers():
    return {"fake-sde": f"{__name__}:FakeSampler"}


@hookimpl
def worldr1_register_noise_conditioners():
    return {"fake-noise": f"{__name__}:NegatedNoise"}


@hookimpl
def worldr1_register_rewards():
    return {
        "brightness": f"{__name__}:Brightness",
        "redness": f"{__name__}:Redness",
        "upper-brightness": f"{__name__}:UpperBrightness",
        "gain": f"{__name__}:Gain",
        "shine-accuracy": f"{__name__}:CameraAccuracy",
        "fragile": f"{__name__}:Fragile",
    }
