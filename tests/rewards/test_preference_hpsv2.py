from __future__ import annotations

import logging
import math
import os
import sys

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from rewards.tiny_preference import ARCHITECTURE, hpsv2_state, register_tiny_clip, save_hpsv2
from worldr1_core.clip import Clip
from worldr1_core.errors import MissingExtraError, ScoreNotApplicable, ScoreUnavailable, UserError, WeightsError
from worldr1_core.reward import RewardInputs, Score
from worldr1_core.video import Video
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.judges.images import to_pil
from worldr1_rewards.preference_models import hpsv2
from worldr1_rewards.rewards.preference import PreferenceReward


@pytest.fixture(scope="module", autouse=True)
def _tiny_clip(tmp_path_factory):
    register_tiny_clip(tmp_path_factory.mktemp("configs"))


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch):
    monkeypatch.setattr(hpsv2, "ARCHITECTURE", ARCHITECTURE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_hpsv2(tmp_path_factory.mktemp("hpsv2"))


def make_clip(seed: int, prompt: str = "a red wall", frames: int = 4, size: tuple[int, int] = (20, 40)) -> Clip:
    return Clip(Video(torch.rand(frames, 3, *size, generator=torch.Generator().manual_seed(seed))), prompt=prompt)


def reference(frame: torch.Tensor, prompt: str) -> float:
    """The released recipe, step by step: longer side to the model's size, black margins, CLIP's normalisation."""
    model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    model.load_state_dict(hpsv2_state())
    model.eval()
    image = Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy())
    scale = 28 / max(image.size)
    fitted = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (28, 28))
    square.paste(fitted, ((28 - fitted.width) // 2, (28 - fitted.height) // 2))
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = torch.from_numpy(((np.asarray(square) / 255 - mean) / std).transpose(2, 0, 1)).float()
    with torch.no_grad():
        seen, said, _ = model(pixels[None], open_clip.get_tokenizer(ARCHITECTURE)([prompt]))
    return torch.cosine_similarity(seen.double(), said.double()).item()


def test_the_released_key_names_fill_the_model():
    assert set(open_clip.create_model(ARCHITECTURE, pretrained=None).state_dict()) == set(hpsv2_state())


def test_the_score_is_the_cosine_of_the_released_recipe(checkpoint):
    clip = make_clip(0)
    score = PreferenceReward(checkpoint=str(checkpoint)).score(clip, RewardInputs())
    expected = reference(clip.video.frames[0], clip.prompt)
    assert score.details["raw"] == pytest.approx(expected, abs=1e-5)
    assert score.value == pytest.approx(min(max((expected - 0.1) / 0.3, 0), 1), abs=1e-4)


def test_the_first_frames_are_averaged(checkpoint):
    clip = make_clip(1)
    score = PreferenceReward(checkpoint=str(checkpoint), num_frames=3).score(clip, RewardInputs())
    singles = [reference(frame, clip.prompt) for frame in clip.video.frames[:3]]
    assert score.details["raw_frames"] == pytest.approx(singles, abs=1e-5)
    assert score.details["raw"] == pytest.approx(sum(singles) / 3, abs=1e-5)
    assert score.details["num_frames"] == 3


def test_a_clip_shorter_than_the_average_uses_what_it_has(checkpoint):
    score = PreferenceReward(checkpoint=str(checkpoint), num_frames=9).score(make_clip(1), RewardInputs())
    assert score.details["num_frames"] == 4


def test_a_batch_scores_as_its_clips_alone(checkpoint):
    clips = [make_clip(n, prompt) for n, prompt in enumerate(["a wall", "a very long red brick wall", "x"])]
    reward = PreferenceReward(checkpoint=str(checkpoint), num_frames=2)
    singles = [reward.score(clip, RewardInputs()) for clip in clips]
    assert reward.score_batch(clips, [RewardInputs()] * 3) == singles
    batched = PreferenceReward(checkpoint=str(checkpoint), num_frames=2, batch_size=4).score_batch(
        clips, [RewardInputs()] * 3
    )
    for one, other in zip(singles, batched, strict=True):
        assert other.details["raw"] == pytest.approx(one.details["raw"], abs=1e-5)
    assert len({score.details["raw"] for score in singles}) == 3


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_local_file_or_its_folder_is_loaded(checkpoint, form):
    where = checkpoint if form == "file" else checkpoint.parent
    assert isinstance(PreferenceReward(checkpoint=str(where)).score(make_clip(0), RewardInputs()), Score)


def test_half_precision_weights_load_into_float32(tmp_path):
    half = {key: value.half() for key, value in hpsv2_state().items()}
    reward = PreferenceReward(checkpoint=str(save_hpsv2(tmp_path, half)))
    clip = make_clip(0)
    score = reward.score(clip, RewardInputs())
    assert score.details["raw"] == pytest.approx(reference(clip.video.frames[0], clip.prompt), abs=5e-3)
    assert next(reward._model().model.parameters()).dtype == torch.float32


def test_the_requested_type_is_used(checkpoint):
    reward = PreferenceReward(checkpoint=str(checkpoint), dtype="bfloat16")
    exact = PreferenceReward(checkpoint=str(checkpoint)).score(make_clip(0), RewardInputs()).details["raw"]
    assert reward.score(make_clip(0), RewardInputs()).details["raw"] == pytest.approx(exact, abs=0.05)
    assert next(reward._model().model.parameters()).dtype == torch.bfloat16


def test_a_prompt_cannot_end_the_text_early(checkpoint):
    model = hpsv2.HPSv2(WeightsSource(str(checkpoint)))
    for prompt in ["good<end_of_text> bad", "&lt;END_OF_TEXT&gt; bad", "<start_of_text> bad"]:
        ids = model.tokenize(prompt)
        assert int((ids == model.tokenizer.eot_token_id).sum()) == 1
        assert int((ids == model.tokenizer.sot_token_id).sum()) == 1
    torch.testing.assert_close(model.tokenize("a < b"), model.tokenizer(["a < b"]))


def test_the_map_to_one_is_monotone_and_bounded():
    values = [hpsv2.HPSv2.to_unit(x / 100) for x in range(-100, 101)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert hpsv2.HPSv2.to_unit(0.31) > hpsv2.HPSv2.to_unit(0.30)


def test_no_prompt_is_no_question(checkpoint):
    answers = PreferenceReward(checkpoint=str(checkpoint)).score_batch(
        [make_clip(0), make_clip(1, " ")], [RewardInputs()] * 2
    )
    assert isinstance(answers[0], Score)
    assert isinstance(answers[1], ScoreNotApplicable)
    with pytest.raises(ScoreNotApplicable, match="no prompt"):
        PreferenceReward(checkpoint="nowhere.pt").score(make_clip(0, ""), RewardInputs())


def test_nan_from_the_model_is_no_score(tmp_path):
    state = hpsv2_state()
    state["visual.proj"][:] = math.nan
    reward = PreferenceReward(checkpoint=str(save_hpsv2(tmp_path, state)))
    with pytest.raises(ScoreUnavailable, match="no finite score"):
        reward.score(make_clip(0), RewardInputs())


def test_a_failing_forward_pass_fails_its_clips_only(checkpoint, monkeypatch):
    reward = PreferenceReward(checkpoint=str(checkpoint))
    model, real = reward._model(), reward._model().score

    def out_of_memory_on_tall(images, prompts):
        if images[0].height > images[0].width:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(images, prompts)

    monkeypatch.setattr(model, "score", out_of_memory_on_tall)
    answers = reward.score_batch([make_clip(0), make_clip(1, size=(40, 20)), make_clip(2)], [RewardInputs()] * 3)
    assert [type(answer) for answer in answers] == [Score, ScoreUnavailable, Score]
    assert "out of memory" in str(answers[1])


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"no file 'gone\.pt'"):
        PreferenceReward(checkpoint=str(tmp_path / "gone.pt")).score(make_clip(0), RewardInputs())
    with pytest.raises(WeightsError, match=r"no file 'HPS_v2\.1_compressed\.pt'"):
        PreferenceReward(checkpoint=str(tmp_path)).score(make_clip(0), RewardInputs())


def test_the_released_checkpoint_offline_names_the_fix():
    with pytest.raises(WeightsError, match="hf download xswu/HPSv2"):
        PreferenceReward(local_files_only=True).score(make_clip(0), RewardInputs())


def test_a_truncated_checkpoint_is_refused(checkpoint, tmp_path):
    short = tmp_path / "short.pt"
    short.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"Cannot load HPSv2\.1"):
        PreferenceReward(checkpoint=str(short)).score(make_clip(0), RewardInputs())


class _Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "extra": _Payload(str(marker))}, path)
    with pytest.raises(WeightsError):
        PreferenceReward(checkpoint=str(path)).score(make_clip(0), RewardInputs())
    assert not marker.exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"a": 1}], ids=["empty", "list", "numbers"])
def test_a_file_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match="no dictionary of tensors"):
        PreferenceReward(checkpoint=str(tmp_path / "odd.pt")).score(make_clip(0), RewardInputs())


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_a_checkpoint_of_another_model_is_refused(tmp_path, damage):
    state = hpsv2_state()
    if damage == "missing":
        state.pop("visual.proj")
    elif damage == "extra":
        state["score_head.weight"] = torch.zeros(1)
    else:
        state["visual.proj"] = torch.zeros(16, 9)
    with pytest.raises(WeightsError, match="does not fit the model"):
        PreferenceReward(checkpoint=str(save_hpsv2(tmp_path, state))).score(make_clip(0), RewardInputs())


def test_without_open_clip_the_extra_is_named(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r"worldr1-rewards\[hps\]"):
        PreferenceReward(checkpoint=str(checkpoint)).score(make_clip(0), RewardInputs())


def test_an_unknown_model_is_refused():
    with pytest.raises(UserError, match=r"hpsv2\.1"):
        PreferenceReward(model="hpsv9")


def test_no_warning_of_random_weights_is_left_standing(checkpoint, caplog):
    with caplog.at_level(logging.WARNING):
        PreferenceReward(checkpoint=str(checkpoint)).score(make_clip(0), RewardInputs())
        logging.getLogger("afterwards").warning("still heard")
    assert [record.getMessage() for record in caplog.records] == ["still heard"]


# Gradients


def unclamped(monkeypatch):
    """A map to [0, 1] on which the cosines of a random model do not end at a bound."""
    monkeypatch.setattr(hpsv2, "LOWEST", -1.0)
    monkeypatch.setattr(hpsv2, "HIGHEST", 1.0)


def with_gradient(reward, clips):
    frames = torch.stack([clip.video.frames for clip in clips]).requires_grad_()
    values = reward.score_frames(frames, clips, [RewardInputs()] * len(clips))
    [gradient] = torch.autograd.grad(values.nansum(), frames)
    return values.detach(), gradient


@pytest.mark.parametrize("size", [(20, 40), (40, 20), (64, 64), (28, 28), (9, 28)])
def test_values_of_score_frames_are_those_of_score(checkpoint, monkeypatch, size):
    unclamped(monkeypatch)
    reward = PreferenceReward(checkpoint=str(checkpoint), num_frames=3, batch_size=2)
    clips = [make_clip(0, size=size), make_clip(1, "a boat", size=size)]
    values, gradient = with_gradient(reward, clips)
    assert values.tolist() == pytest.approx([reward.score(clip, RewardInputs()).value for clip in clips], abs=1e-6)
    assert gradient[:, :3].abs().amax((2, 3, 4)).min() > 0
    assert gradient[:, 3].abs().max() == 0, "the fourth frame is not looked at"


@pytest.mark.parametrize("size", [(20, 40), (64, 48)])
def test_smooth_preprocessing_is_that_of_pillow_up_to_its_rounding(checkpoint, size):
    model = hpsv2.HPSv2(WeightsSource(str(checkpoint)))
    frames = 0.3 + 0.4 * make_clip(2, size=size).video.frames  # Pillow clips overshoot after each of its two passes
    exact = torch.stack([model.preprocess(image) for image in to_pil(frames)])
    assert (model._preprocess_frames(frames) - exact).abs().max() < 2.5 / 255 / 0.26


def test_the_gradient_is_that_of_the_smooth_preprocessing(checkpoint):
    """Steps of 0.1 average over the rounding to 8 bits."""
    model = hpsv2.HPSv2(WeightsSource(str(checkpoint)))
    frames = 0.2 + 0.6 * make_clip(3).video.frames[:1]
    own = frames.clone().requires_grad_()
    [gradient] = torch.autograd.grad(model.score_frames(own, ["a red wall"]).sum(), own)
    direction = gradient / gradient.norm()
    high, low = (model.score_frames(frames + sign * 0.1 * direction, ["a red wall"]) for sign in (1, -1))
    assert float(high - low) / 0.2 == pytest.approx(float(gradient.norm()), rel=0.1)


def test_a_clip_without_a_prompt_is_nan_and_leaves_the_others_alone(checkpoint, monkeypatch):
    unclamped(monkeypatch)
    values, gradient = with_gradient(PreferenceReward(checkpoint=str(checkpoint)), [make_clip(0, " "), make_clip(1)])
    assert values.isnan().tolist() == [True, False]
    assert gradient[0].abs().max() == 0 < gradient[1].abs().max()


def test_a_model_loaded_while_scoring_has_a_gradient_later(checkpoint):
    reward = PreferenceReward(checkpoint=str(checkpoint))
    with torch.inference_mode():
        reward.score(make_clip(0), RewardInputs())
    assert torch.isfinite(with_gradient(reward, [make_clip(0)])[1]).all()
