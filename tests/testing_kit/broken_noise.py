"""A noise conditioner that keeps every promise, and for every check one that breaks it. Module level: they pickle."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from testing_kit import broken_components
from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import TrajectoryError
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest


class Good(NoiseConditioner):
    """Gaussian noise; camera words turn its sign in every other frame, and push a delta after two steps."""

    class Config(ComponentConfig):
        strength: float = Field(0.5, ge=0, le=1, description="Sum of the weights.")

    config: Config

    def draw(self, request: NoiseRequest, generator: torch.Generator) -> InitialNoise:
        sizes = request.geometry
        shape = (sizes.channels, sizes.num_frames, sizes.height, sizes.width)
        noise = self.noise(shape, generator)
        path = request.trajectory
        if path is None:
            path = trajectory_from_prompt(request.prompt, sizes.video_frames)
        if path is None:
            return InitialNoise(noise)
        self.check(path, sizes)
        noise[:, 1::2] *= -1
        half = self.config.strength / 2
        return InitialNoise(noise, path, torch.ones(shape), (half, half))

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator)

    def check(self, path, sizes) -> None:
        if path.num_frames != sizes.video_frames:
            raise TrajectoryError(f"{path.num_frames} poses for {sizes.video_frames} frames")


class _LooseConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    strength: float = Field(0.5, ge=0, le=1, description="Sum of the weights.")


class PlainConfig(Good):
    """Gaussian noise."""

    Config = _LooseConfig


class Undescribed(Good):
    """Gaussian noise."""

    class Config(broken_components.UndescribedConfig, Good.Config):
        pass


class Unbounded(Good):
    """Gaussian noise."""

    class Config(broken_components.UnboundedConfig, Good.Config):
        pass


class NoRoundTrip(Good):
    """Gaussian noise."""

    class Config(broken_components.GrowingConfig, Good.Config):
        pass


class CannotStart(broken_components.CannotStart, Good):
    """Gaussian noise."""


class SwallowsOptions(broken_components.SwallowsOptions, Good):
    """Gaussian noise."""


class Undocumented(Good):
    __doc__ = ""


class HoldsAGenerator(Good):
    """Gaussian noise."""

    def __init__(self, config=None, *, device="cpu", **options):
        super().__init__(config, device=device, **options)
        self.open = (value for value in ())


class OfDoubles(Good):
    """Gaussian noise in float64."""

    def noise(self, shape, generator):
        return super().noise(shape, generator).double()


class WithABatch(Good):
    """Gaussian noise with a leading dimension."""

    def draw(self, request, generator):
        noise = super().draw(request, generator)
        return InitialNoise(noise.latents[None], noise.trajectory, noise.step_delta, noise.step_weights)

    def initial_noise(self, request):
        return self.draw(request, torch.Generator().manual_seed(request.seed))


class WithNaN(Good):
    """Gaussian noise with a hole."""

    def noise(self, shape, generator):
        noise = super().noise(shape, generator)
        noise[..., 0, 0] = torch.nan
        return noise


class TooQuiet(Good):
    """Gaussian noise that is 5 % too weak."""

    def noise(self, shape, generator):
        return 0.95 * super().noise(shape, generator)


class Uniform(Good):
    """Noise of mean 0 and variance 1 that is not Gaussian."""

    def noise(self, shape, generator):
        return (torch.rand(shape, generator=generator) - 0.5) * 12**0.5


class Interpolated(Good):
    """Gaussian noise between pixels, brought to variance 1."""

    def noise(self, shape, generator):
        noise = super().noise(shape, generator)
        return (noise + 0.1 * noise.roll(1, -1)) / 1.01**0.5


class OneForAllChannels(Good):
    """Gaussian noise whose channels are one."""

    def noise(self, shape, generator):
        return super().noise(shape, generator)[:1].repeat(shape[0], 1, 1, 1)


class KeepsState(Good):
    """Gaussian noise that goes on where the last request ended."""

    def __init__(self, config=None, *, device="cpu", **options):
        super().__init__(config, device=device, **options)
        self.calls = 0

    def noise(self, shape, generator):
        self.calls += 1
        return torch.randn(
            shape, generator=torch.Generator().manual_seed(generator.initial_seed() % 2**40 + self.calls)
        )


class FromTheGlobalGenerator(Good):
    """Gaussian noise of the global generator."""

    def noise(self, shape, generator):
        return torch.randn(shape)


class IgnoresTheSeed(Good):
    """The same Gaussian noise in every other channel, whatever the seed."""

    def noise(self, shape, generator):
        noise = super().noise(shape, generator)
        noise[::4] = torch.randn(noise[::4].shape, generator=torch.Generator().manual_seed(0))
        return noise


class DeltaWithoutWeights(Good):
    """Gaussian noise."""

    def draw(self, request, generator):
        noise = super().draw(request, generator)
        return InitialNoise(noise.latents, noise.trajectory, noise.step_delta, ())


class WeightsWithoutDelta(Good):
    """Gaussian noise."""

    def draw(self, request, generator):
        noise = super().draw(request, generator)
        return InitialNoise(noise.latents, noise.trajectory, None, (0.5, 0.5))


class DeltaOfAnotherSize(Good):
    """Gaussian noise."""

    def draw(self, request, generator):
        noise = super().draw(request, generator)
        delta = None if noise.step_delta is None else noise.step_delta[..., :1]
        return InitialNoise(noise.latents, noise.trajectory, delta, noise.step_weights)

    def initial_noise(self, request):
        return self.draw(request, torch.Generator().manual_seed(request.seed))


class HidesThePath(Good):
    """Gaussian noise."""

    def draw(self, request, generator):
        noise = super().draw(request, generator)
        return InitialNoise(noise.latents, None, noise.step_delta, noise.step_weights)


class CutsPaths(Good):
    """Gaussian noise."""

    def check(self, path, sizes):
        pass


class WritesIntoThePath(Good):
    """Gaussian noise."""

    def draw(self, request, generator):
        if request.trajectory is not None:
            request.trajectory.c2w[:, :3, 3] = 0
        return super().draw(request, generator)


class Prints(Good):
    """Gaussian noise."""

    def noise(self, shape, generator):
        print("drawing", shape)  # noqa: T201
        return super().noise(shape, generator)


MUTANTS = [
    ("constructs", CannotStart),
    ("config-class", PlainConfig),
    ("config-described", Undescribed),
    ("config-bounded", Unbounded),
    ("config-round-trip", NoRoundTrip),
    ("unknown-option", SwallowsOptions),
    ("documented", Undocumented),
    ("pickles", HoldsAGenerator),
    ("shape-and-type", OfDoubles),
    ("shape-and-type", WithABatch),
    ("shape-and-type", WithNaN),
    ("shape-and-type", DeltaOfAnotherSize),
    ("standard-normal", TooQuiet),
    ("standard-normal", Uniform),
    ("white", Interpolated),
    ("channels-independent", OneForAllChannels),
    ("seeds-reproduce", KeepsState),
    ("leaves-random-state", FromTheGlobalGenerator),
    ("seeds-differ", IgnoresTheSeed),
    ("step-injection", DeltaWithoutWeights),
    ("step-injection", WeightsWithoutDelta),
    ("returns-path", HidesThePath),
    ("path-length", CutsPaths),
    ("input-unchanged", WritesIntoThePath),
    ("prints-nothing", Prints),
]
"""Check -> a conditioner that breaks it."""

ALSO_FAIL = {
    PlainConfig: {"unknown-option", "config-round-trip"},
    WithABatch: {"*"},
    WithNaN: {"*"},
    FromTheGlobalGenerator: {"seeds-reproduce"},
    DeltaOfAnotherSize: {"step-injection"},
    OneForAllChannels: {"white", "standard-normal", "seeds-differ"},
    IgnoresTheSeed: {"standard-normal", "white", "channels-independent"},
    OfDoubles: set(),
}
"""What else a broken conditioner cannot help failing; `*` for anything."""
