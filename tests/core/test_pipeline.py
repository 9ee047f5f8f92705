"""The pipeline that generation, evaluation and rollouts share, on the fake world."""

from __future__ import annotations

import pytest
import torch

from train.fake_world import FakeBackbone, FakePolicy, FakeSampler, NegatedNoise
from worldr1_core.camera.vocabulary import trajectory_from_moves, trajectory_from_prompt
from worldr1_core.errors import TrajectoryError, UserError, VideoError
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.generation_components import GenerationComponents
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest
from worldr1_core.pipeline import VideoPipeline, VideoRequest, commanded_path, to_video
from worldr1_core.seeding import generator

PUSH, PLAIN = "Camera push in. A ball.", "a ball"


class CarryingNoise(NoiseConditioner):
    """Noise that carries a path of its own, and is injected between steps."""

    path = trajectory_from_moves(["orbit left"], 3)
    weights: tuple[float, ...] = ()

    def draw(self, request, generator):
        noise = torch.randn(request.geometry.shape, generator=generator)
        delta = torch.ones_like(noise) if self.weights else None
        return InitialNoise(noise, self.path, delta, self.weights)


class InjectedNoise(CarryingNoise):
    """The same, with a delta after the first step."""

    weights = (0.5,)


def make_pipeline(**options) -> VideoPipeline:
    return VideoPipeline(**{"backbone": FakeBackbone(), "num_inference_steps": 4, "scheduler": FakePolicy(), **options})


def only(pipeline: VideoPipeline, request: VideoRequest):
    (made,) = pipeline.generate([request])
    return made


def test_videos_are_those_of_the_steps_by_hand():
    backbone = FakeBackbone()
    noise = GaussianNoise().initial_noise(NoiseRequest(backbone.geometry, PLAIN, 7))
    rollout = backbone.sample(backbone.encode([PLAIN]), noise.latents[None], num_inference_steps=4)
    made = only(make_pipeline(backbone=backbone), VideoRequest(PLAIN, 7))
    assert torch.equal(made.video.frames, backbone.decode(rollout.latents)[0])
    assert made.video.fps == backbone.fps


def test_batches_change_nothing_but_the_last_bits():
    requests = [VideoRequest(prompt, seed) for seed, prompt in enumerate([PUSH, PLAIN, "a box"])]
    single, batched = (list(make_pipeline().generate(requests, batch_size=size)) for size in (1, 2))
    for one, other in zip(single, batched, strict=True):
        assert one.request is other.request
        torch.testing.assert_close(one.video.frames, other.video.frames, rtol=0, atol=1e-6)


def test_with_noise_changes_the_noise_alone():
    pipeline = make_pipeline()
    plain, other = (
        only(one, VideoRequest(PLAIN, 3)).video.frames for one in (pipeline, pipeline.with_noise(NegatedNoise()))
    )
    assert not torch.equal(plain, other)
    assert pipeline.with_noise(NegatedNoise()).with_noise(pipeline.conditioner) == pipeline


def test_denoisers_run_inside_the_call_and_without_gradients():
    seen = []

    def call(function, *args, **kwargs):
        seen.append((function.__name__, torch.is_grad_enabled()))
        return function(*args, **kwargs)

    pipeline = make_pipeline(call=call)
    batch = pipeline.prepare([VideoRequest(PLAIN)])
    pipeline.decode(batch, pipeline.sample(batch).latents)
    pipeline.sample_groups(batch, window=(0, 1), generators=[generator(0, n) for n in range(2)])
    assert seen == [("rollout_videos", False), ("rollout_groups", False)]


def test_a_group_shares_its_prompt_and_path():
    pipeline = make_pipeline()
    batch = pipeline.prepare([VideoRequest(PUSH, 1), VideoRequest(PLAIN, 2)])
    rollout = pipeline.sample_groups(batch, window=(1, 2), generators=[generator(0, n) for n in range(6)])
    videos = pipeline.decode(batch, rollout.latents)
    assert [made.request.prompt for made in videos] == [PUSH] * 3 + [PLAIN] * 3
    assert [made.commanded is None for made in videos] == [False] * 3 + [True] * 3
    assert not torch.equal(videos[0].video.frames, videos[1].video.frames)
    assert len(rollout.steps) == 1


@pytest.mark.parametrize("carrying", [False, True])
def test_commanded_path_is_the_requests_then_the_noises_then_the_prompts(carrying):
    pipeline = make_pipeline(conditioner=CarryingNoise() if carrying else GaussianNoise())
    expected = CarryingNoise.path if carrying else trajectory_from_prompt(PUSH, 3, (8, 8))
    assert torch.equal(only(pipeline, VideoRequest(PUSH)).commanded.c2w, expected.c2w)
    given = trajectory_from_moves(["pan left"], 3)
    assert only(pipeline, VideoRequest(PUSH, 0, given)).commanded is given


def test_clip_of_a_video_is_judged_by_the_commanded_path():
    made = only(make_pipeline(), VideoRequest(PUSH))
    clip = made.as_clip("first", reference=made.video)
    assert (clip.video, clip.prompt, clip.target, clip.name) == (made.video, PUSH, made.commanded, "first")
    assert clip.reference is made.video
    assert only(make_pipeline(), VideoRequest(PLAIN)).as_clip("second").target is None


def test_paths_that_do_not_fit_are_refused():
    geometry = FakeBackbone().geometry
    with pytest.raises(TrajectoryError, match="frames"):
        commanded_path(VideoRequest("Camera push in, pan left, pull out, pan right."), geometry)
    with pytest.raises(UserError, match="5 poses, the video 3 frames"):
        commanded_path(VideoRequest(PLAIN, 0, trajectory_from_moves(["pan left"], 5)), geometry)


def test_noise_between_steps_needs_a_sampler_and_is_refused_before_prompts_are_encoded(monkeypatch):
    monkeypatch.setattr(FakeBackbone, "encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(UserError, match=r"between steps.*sampler"):
        make_pipeline(scheduler=None, conditioner=InjectedNoise()).prepare([VideoRequest(PLAIN)])


def test_noise_between_steps_changes_the_video():
    plain, injected = (
        only(make_pipeline(conditioner=noise), VideoRequest(PLAIN)).video.frames
        for noise in (CarryingNoise(), InjectedNoise())
    )
    assert not torch.equal(plain, injected)


def test_groups_need_a_policy():
    pipeline = make_pipeline(scheduler=None)
    batch = pipeline.prepare([VideoRequest(PLAIN)])
    with pytest.raises(UserError, match="policy scheduler"):
        pipeline.sample_groups(batch, window=(0, 1), generators=[generator(0, "rollout")])


def test_batch_size_below_one_is_refused():
    with pytest.raises(UserError, match="batch_size must be at least 1, received 0"):
        list(make_pipeline().generate([VideoRequest(PLAIN)], batch_size=0))


def test_small_overshoots_are_clipped_and_another_range_is_an_error():
    frames = torch.linspace(-0.1, 1.1, 3 * 4 * 4).reshape(1, 3, 4, 4)
    assert torch.equal(to_video(frames, 8.0).frames, frames.clamp(0, 1))
    with pytest.raises(VideoError, match=r"received \[-1, 1\]"):
        to_video(torch.linspace(-1, 1, 3 * 4 * 4).reshape(1, 3, 4, 4), 8.0)
    with pytest.raises(VideoError, match="NaN"):
        to_video(torch.full((1, 3, 4, 4), torch.nan), 8.0)


def test_steps_are_the_samplers_unless_given():
    components = GenerationComponents(FakeBackbone(), FakeSampler(num_inference_steps=6))
    assert components.make_pipeline().num_inference_steps == 6
    assert components.make_pipeline(num_inference_steps=3).num_inference_steps == 3
    without = GenerationComponents(FakeBackbone()).make_pipeline()
    assert (without.num_inference_steps, without.scheduler) == (50, None)
