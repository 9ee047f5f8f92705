"""A backbone that keeps every contract, and for every check of the kit one that breaks it."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from dataclasses import replace

import torch

from backbones.tiny_checkpoints import make_wan
from worldr1_backbones.wan import WanBackbone
from worldr1_core.backbone import Conditioning, Rollout

_FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def _checkpoint() -> str:
    make_wan("2.1").save_pretrained(_FOLDER.name)
    return _FOLDER.name


class Good(WanBackbone):
    """A tiny random Wan."""

    def __init__(self, config=None, *, device="cpu", **options):
        if config is None:
            defaults = {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 16}
            options = {"path": _checkpoint(), **defaults, **options}
        super().__init__(config, device=device, **options)


class TransposedFrames(Good):
    """Channels before frames."""

    def decode(self, latents):
        return super().decode(latents).transpose(1, 2)


class WrongStride(Good):
    """States a video that the strides do not make."""

    @property
    def geometry(self):
        return replace(super().geometry, video_frames=6)


class MixedPrompts(Good):
    """A mean over the batch gets into every prompt."""

    def encode(self, prompts):
        made = super().encode(prompts)
        return Conditioning(made.prompts, {k: v + v.mean(0, keepdim=True) for k, v in made.tensors.items()})


class MixedVideos(Good):
    """A mean over the batch gets into the latents of every video."""

    def encode_video(self, frames):
        made = super().encode_video(frames)
        return made + made.mean(0, keepdim=True)


class BareLatents(Good):
    """Leaves a latent frame out."""

    def encode_video(self, frames):
        return super().encode_video(frames)[:, :, 1:]


class NoCalls(Good):
    """Records steps without the calls that led to them."""

    def sample(self, *arguments, **options):
        made = super().sample(*arguments, **options)
        return Rollout(made.latents, [replace(step, calls=()) for step in made.steps])


class AlwaysRecords(Good):
    """Records though it was not asked to."""

    def sample(self, *arguments, run=None, **options):
        return super().sample(*arguments, run=None if run is None else replace(run, record=True), **options)


class RoundedReplay(Good):
    """Replays in another precision than it sampled."""

    def predict(self, step):
        return super().predict(step).bfloat16().float()


class WrongRows(Good):
    """Selects the latents of some samples with the embeddings of others."""

    def select_step(self, step, rows):
        own, others = super().select_step(step, rows), super().select_step(step, [1 - row for row in rows])
        name = "encoder_hidden_states"
        calls = tuple(
            replace(call, kwargs={**call.kwargs, name: other.kwargs[name]})
            for call, other in zip(own.calls, others.calls, strict=True)
        )
        return replace(own, calls=calls)


class GlobalNoise(Good):
    """Draws from the global generator."""

    def sample(self, conditioning, latents, **options):
        return super().sample(conditioning, latents + 1e-3 * torch.randn_like(latents), **options)


class OneGenerator(Good):
    """Seeds itself: every run of a group is the same."""

    def sample(self, *arguments, run=None, **options):
        if run is not None:
            same = [torch.Generator().manual_seed(row) for row in range(len(run.generators))]
            run = replace(run, generators=same)
        return super().sample(*arguments, run=run, **options)


class BatchStatistics(Good):
    """Normalises over the batch."""

    def sample(self, conditioning, latents, **options):
        return super().sample(conditioning, latents - 0.1 * latents.mean(0, keepdim=True), **options)


class RoundedLatents(Good):
    """Returns the pipeline's rounded copy."""

    def sample(self, *arguments, **options):
        made = super().sample(*arguments, **options)
        return Rollout(made.latents.bfloat16().float(), made.steps)


class NoDelta(Good):
    """Leaves the conditioner's signal out."""

    def sample(self, *arguments, run=None, **options):
        return super().sample(*arguments, run=None if run is None else replace(run, step_delta=None), **options)


class NoGradients(Good):
    """Predicts without gradients."""

    def predict(self, step):
        with torch.no_grad():
            made = super().predict(step)
        return made + 0 * next(p for _, p in self.trainable_parameters()).sum()


class HalfFrozen(Good):
    """The model is trained beside its adapter."""

    def add_adapter(self, spec):
        super().add_adapter(spec)
        self.pipeline.transformer.proj_out.requires_grad_(True)


class EffectAtStart(Good):
    """The fresh adapter changes the model."""

    def add_adapter(self, spec):
        super().add_adapter(spec)
        with torch.no_grad():
            for _, parameter in self.trainable_parameters():
                parameter.add_(0.1)


class NeverDisabled(Good):
    """The reference of the KL term is the policy itself."""

    def adapter_disabled(self):
        return contextlib.nullcontext()


class FrozenAfterwards(Good):
    """Training stops where the reference was computed once."""

    @contextlib.contextmanager
    def adapter_disabled(self):
        with super().adapter_disabled():
            yield
        self.pipeline.transformer.requires_grad_(False)


class RoundedAdapter(Good):
    """Saves the adapter in half precision."""

    def save_adapter(self, folder):
        with torch.no_grad():
            for _, parameter in self.trainable_parameters():
                kept = parameter.clone()
                parameter.copy_(parameter.bfloat16().float())
                parameter.kept = kept
        super().save_adapter(folder)
        with torch.no_grad():
            for _, parameter in self.trainable_parameters():
                parameter.copy_(parameter.kept)


class TrainableAfterLoading(Good):
    """An adapter that was read is trained on."""

    def load_adapter(self, folder, *, trainable=False):
        super().load_adapter(folder, trainable=True)


class StackedAdapters(Good):
    """Takes a second adapter in silence."""

    def add_adapter(self, spec):
        with contextlib.suppress(Exception):
            super().add_adapter(spec)


class TakesNaN(Good):
    """Samples whatever it is given."""

    def sample(self, conditioning, latents, **options):
        return super().sample(conditioning, torch.nan_to_num(latents), **options)


class InPlace(Good):
    """Changes the caller's latents."""

    def sample(self, conditioning, latents, **options):
        made = super().sample(conditioning, latents, **options)
        latents.mul_(1.0 + 1e-3)
        return made


class SeedsGlobally(Good):
    """Moves the global generator."""

    def encode(self, prompts):
        torch.manual_seed(0)
        return super().encode(prompts)


class Prints(Good):
    """Writes on standard output."""

    def decode(self, latents):
        print("decoding")  # noqa: T201
        return super().decode(latents)


MUTANTS = {
    "channels before frames": ("geometry", TransposedFrames),
    "strides": ("geometry", WrongStride),
    "mixed prompts": ("encode", MixedPrompts),
    "mixed videos": ("encode-video", MixedVideos),
    "bare latents": ("encode-video", BareLatents),
    "no calls": ("records-the-window", NoCalls),
    "records unasked": ("records-the-window", AlwaysRecords),
    "rounded replay": ("replay-is-exact", RoundedReplay),
    "crossed rows": ("rows-of-a-step", WrongRows),
    "global noise": ("seeds-reproduce", GlobalNoise),
    "one generator": ("seeds-reproduce", OneGenerator),
    "batch statistics": ("batch-mates", BatchStatistics),
    "rounded latents": ("segments-compose", RoundedLatents),
    "no delta": ("step-delta", NoDelta),
    "no gradients": ("gradients", NoGradients),
    "half frozen": ("adapter-starts-without-effect", HalfFrozen),
    "effect at start": ("adapter-starts-without-effect", EffectAtStart),
    "never disabled": ("adapter-disabled", NeverDisabled),
    "frozen afterwards": ("adapter-disabled", FrozenAfterwards),
    "rounded adapter": ("adapter-round-trip", RoundedAdapter),
    "trainable after loading": ("adapter-round-trip", TrainableAfterLoading),
    "stacked adapters": ("one-adapter", StackedAdapters),
    "takes NaN": ("refuses-bad-latents", TakesNaN),
    "in place": ("inputs-unchanged", InPlace),
    "seeds globally": ("leaves-random-state", SeedsGlobally),
    "prints": ("prints-nothing", Prints),
}
"""What is wrong -> the check that must see it, and the backbone."""
