"""Figures that no reward reads: diversity over seeds, and the loss on true clips."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch

from train.fake_world import FakeBackbone, FakePolicy, FakeSampler
from train.runs import White
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_core.backbone import AdapterSpec
from worldr1_core.errors import UserError, VideoError
from worldr1_core.generation_components import GenerationComponents
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_train.diversity import Diversity, distances_within_groups, seed_diversity
from worldr1_train.evaluation_videos import EvaluationVideos, even_share
from worldr1_train.flow_matching_loss import FlowMatchingLoss, prediction_errors
from worldr1_train.held_out_section import ReferenceClipsSection
from worldr1_train.policy_model import PolicyModel
from worldr1_train.policy_pipeline import policy_pipeline
from worldr1_train.reference_clips import ReferenceClip, find_reference_files, fit_frames, reference_clips

PROMPTS = ["a cat", "a tree", "a boat", "a cat"]


class EncodingBackbone(FakeBackbone):
    """Its latents are logits of every second pixel, and a channel of nothing."""

    def encode_video(self, frames):
        logits = torch.logit(frames.clamp(0.01, 0.99)).movedim(1, 2)[..., ::2, ::2]
        return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


@pytest.fixture
def videos():
    backbone = EncodingBackbone()
    backbone.add_adapter(AdapterSpec(rank=4))
    components = GenerationComponents(backbone, FakeSampler(num_inference_steps=4), White())
    return EvaluationVideos(policy_pipeline(components, PolicyModel(backbone), contextlib.nullcontext), PROMPTS, seed=0)


def true_clips(count=3):
    frames = torch.rand((count, 3, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    return [ReferenceClip(f"clip {i}", f"prompt {i}", lambda i=i: frames[i]) for i in range(count)]


# Diversity


def test_diversity_of_white_noise_is_known_whatever_the_number_of_seeds():
    """Pixels of standard deviation s differ by sqrt(2) s."""
    generator = torch.Generator().manual_seed(0)
    for count in (2, 3, 6):
        noise = [0.5 + 0.1 * torch.randn(4, 3, 32, 32, generator=generator) for _ in range(count)]
        assert seed_diversity(noise) == pytest.approx(math.sqrt(2) * 0.1, rel=0.02)


def test_distances_within_groups_are_those_of_seed_diversity_and_have_gradients():
    videos = torch.rand(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    values = distances_within_groups(videos, ["a", "b", "a", "a", "c"])
    assert values[[0, 2, 3]].mean().item() == pytest.approx(seed_diversity(list(videos[[0, 2, 3]].detach())))
    first = (videos[0] - videos[2]).square().mean().sqrt() + (videos[0] - videos[3]).square().mean().sqrt()
    assert values[0].item() == pytest.approx(first.item() / 2)
    assert values[[1, 4]].isnan().all()
    torch.where(values.isnan(), 0.0, values).sum().backward()
    assert videos.grad.isfinite().all()
    assert videos.grad[[0, 2, 3]].abs().amin() > 0
    assert not videos.grad[[1, 4]].any()


def test_equal_videos_have_a_finite_gradient():
    videos = torch.full((2, 2, 3, 4, 4), 0.5, requires_grad=True)
    distances_within_groups(videos, ["a", "a"]).sum().backward()
    assert videos.grad.isfinite().all()


def test_diversity_is_measured_once_per_different_prompt_from_the_same_seeds(videos):
    figure = Diversity(num_prompts=2, num_seeds=3, batch_size=4)
    assert figure.labels(videos) == ["a cat", "a tree"]
    first, again = (figure.measure(videos, rank=0, num_processes=1) for _ in range(2))
    assert first == again
    assert set(first) == {0, 1}
    assert all(0 < value < 1 for value in first.values())


def test_a_model_that_makes_one_video_for_all_seeds_has_no_diversity(videos, monkeypatch):
    monkeypatch.setattr(EncodingBackbone, "decode", lambda self, latents: torch.full((len(latents), 3, 3, 8, 8), 0.5))
    assert Diversity(2, 2, 8).measure(videos, rank=0, num_processes=1) == {0: 0.0, 1: 0.0}


def test_processes_share_the_prompts_and_make_as_many_calls(videos):
    figure = Diversity(num_prompts=3, num_seeds=2, batch_size=2)
    whole = figure.measure(videos, rank=0, num_processes=1)
    calls, shares = [], []
    for rank in (0, 1):
        before = videos.pipeline.backbone.num_sampled
        shares.append(figure.measure(videos, rank=rank, num_processes=2))
        calls.append(videos.pipeline.backbone.num_sampled - before)
    assert calls[0] == calls[1]
    assert {**shares[0], **shares[1]} == pytest.approx(whole)


@pytest.mark.parametrize(("count", "num_processes"), [(1, 4), (5, 2), (6, 3)])
def test_even_shares_hold_every_number(count, num_processes):
    shares = [even_share(count, rank, num_processes) for rank in range(num_processes)]
    assert len({len(share) for share in shares}) == 1
    assert set().union(*shares) == set(range(count))


# The loss on true clips


def test_the_loss_is_that_of_the_velocity_at_the_nearest_level(videos):
    backbone = videos.pipeline.backbone
    generator = torch.Generator().manual_seed(3)
    latents, noise = (torch.randn(2, *backbone.geometry.shape, generator=generator) for _ in range(2))
    found = prediction_errors(videos.pipeline, ["a cat", "a tree"], latents, noise, 0.7)
    sigma = 0.75  # of the levels 1, 0.75, 0.5 and 0.25
    with torch.no_grad():
        velocity = backbone.denoisers["transformer"](
            (1 - sigma) * latents + sigma * noise,
            torch.full((2,), 1000 * sigma),
            backbone.encode(["a cat", "a tree"]).tensors["prompt_embeds"],
        )
    expected = (velocity - (noise - latents)).square().flatten(1).mean(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_knows_the_answer_has_no_loss(videos, monkeypatch):
    backbone = videos.pipeline.backbone
    latents, noise = torch.randn(2, 1, *backbone.geometry.shape, generator=torch.Generator().manual_seed(4)).unbind()
    answer = noise - latents
    monkeypatch.setattr(type(backbone.denoisers["transformer"]), "forward", lambda self, *a, **k: answer)
    assert float(prediction_errors(videos.pipeline, ["a"], latents, noise, 0.5)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [("wan-2.1", FlowSDESampler()), ("cogvideox-1.5", DDIMSDESampler())],
    ids=["wan-2.1", "cogvideox-1.5"],
)
def test_the_loss_needs_no_knowledge_of_the_parametrisation(checkpoints, kind, sampler, monkeypatch):
    """The target is the velocity of flow models and v of CogVideoX, whose first latent frame is padding."""
    backbone = checkpoints.backbone(kind, guidance_scale=1.0)
    pipeline = GenerationComponents(backbone, sampler).make_pipeline(num_inference_steps=4)
    latents, noise = torch.randn(2, 1, *backbone.geometry.shape, generator=torch.Generator().manual_seed(5)).unbind()
    module, received = backbone.denoisers["transformer"], {}

    def watch(_, args, kwargs, output):
        received.update(kwargs, output=output[0])

    handle = module.register_forward_hook(watch, with_kwargs=True)
    found = float(prediction_errors(pipeline, ["Camera push in."], latents, noise, 0.7))
    handle.remove()
    timestep = float(received["timestep"].flatten()[0])
    if kind == "wan-2.1":
        target = noise - latents
    else:
        signal = float(pipeline.scheduler.alphas_cumprod[int(timestep)])
        target = math.sqrt(signal) * noise - math.sqrt(1 - signal) * latents
    error = backbone.from_pipeline(received["output"]) - target
    expected = float(error[:, :, backbone.geometry.leading_padding :].square().mean())
    assert found == pytest.approx(expected, rel=1e-3)


def test_every_clip_has_a_value_that_training_changes(videos):
    figure = FlowMatchingLoss(true_clips(), (0.7, 0.3), batch_size=2)
    assert figure.labels(videos) == ["clip 0", "clip 1", "clip 2"]
    before = figure.measure(videos, rank=0, num_processes=1)
    assert before == figure.measure(videos, rank=0, num_processes=1), "the noise is the same each time"
    shares = [figure.measure(videos, rank=rank, num_processes=2) for rank in (0, 1)]
    assert {**shares[0], **shares[1]} == pytest.approx(before, rel=1e-5)
    with torch.no_grad():
        for _, parameter in videos.pipeline.backbone.trainable_parameters():
            parameter.add_(0.5)
    after = figure.measure(videos, rank=0, num_processes=1)
    assert set(after) == {0, 1, 2}
    assert all(after[index] > before[index] for index in after)


def test_without_a_policy_there_is_no_loss(videos):
    backbone = videos.pipeline.backbone
    pipeline = GenerationComponents(backbone).make_pipeline(num_inference_steps=4)
    nothing = torch.zeros(1, *backbone.geometry.shape)
    with pytest.raises(UserError, match="needs a policy scheduler"):
        prediction_errors(pipeline, ["a"], nothing, nothing, 0.7)


def test_the_policy_of_the_tests_has_the_levels_that_they_assume():
    policy = FakePolicy()
    policy.set_timesteps(4)
    assert policy.noise_levels() == [1.0, 0.75, 0.5, 0.25, 0.0]


# Reference clips


def write_clip(path, prompt=None, size=(8, 8), num_frames=3):
    write_video(Video(torch.linspace(0, 1, num_frames)[:, None, None, None].expand(-1, 3, *size).clone()), path)
    if prompt is not None:
        path.with_suffix(".txt").write_text(prompt, encoding="utf-8")


def test_clips_of_a_folder_have_their_prompts_beside_them(tmp_path):
    write_clip(tmp_path / "2.safetensors", "a dog\n")
    write_clip(tmp_path / "10.safetensors", "a cat")
    (tmp_path / "10.txt").unlink()
    (tmp_path / "10.json").write_text('{"prompt": "a cat"}')
    section = ReferenceClipsSection(source=str(tmp_path))
    clips = reference_clips(section, FakeBackbone(), seed=0)
    assert [(clip.name, clip.prompt) for clip in clips] == [("2.safetensors", "a dog"), ("10.safetensors", "a cat")]
    assert clips[0].read().shape == (3, 3, 8, 8)
    assert len(find_reference_files(ReferenceClipsSection(source=[str(tmp_path)], num_clips=1))) == 1


def test_a_clip_without_a_prompt_is_refused(tmp_path):
    write_clip(tmp_path / "a.safetensors", "a dog")
    write_clip(tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"1 of 2 reference clips have no prompt.*b\.safetensors"):
        find_reference_files(ReferenceClipsSection(source=str(tmp_path)))
    with pytest.raises(VideoError, match="no such file or folder"):
        find_reference_files(ReferenceClipsSection(source=str(tmp_path / "none")))


def test_paths_start_from_the_manifests_folder(tmp_path):
    section = ReferenceClipsSection(source=["clips", "/elsewhere"])
    assert section.relative_to(tmp_path).paths == [str(tmp_path / "clips"), "/elsewhere"]
    assert ReferenceClipsSection(source="backbone").relative_to(tmp_path).from_backbone


def test_frames_are_cut_to_the_models_size():
    geometry = FakeBackbone().geometry
    columns = torch.linspace(0, 1, 32)[None, None, None, :].expand(5, 3, 16, 32)
    fitted = fit_frames(columns, geometry, "wide")
    assert fitted.shape == (3, 3, 8, 8)
    assert float(fitted.mean()) == pytest.approx(0.5, abs=0.01), "the centre is taken"
    exact = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(fit_frames(exact, geometry, "exact"), exact, rtol=0, atol=0)
    with pytest.raises(UserError, match="'short' has 2 frames, but the model generates 3"):
        fit_frames(exact[:2], geometry, "short")


def test_only_some_backbones_make_true_clips_themselves():
    from worldr1_backbones.wan import TinyWanBackbone

    section = ReferenceClipsSection(source="backbone", num_clips=2)
    with pytest.raises(UserError, match="FakeBackbone has no true clips of its own"):
        reference_clips(section, FakeBackbone(), seed=0)
    clips = reference_clips(section, TinyWanBackbone(), seed=0)
    assert [clip.read().shape for clip in clips] == [(9, 3, 64, 64)] * 2
    assert " room with " in clips[0].prompt
