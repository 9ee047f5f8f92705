"""VBench's dimensions on tiny random models in the released layout, compared with torchvision and plain loops."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch.nn import functional
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from worldr1_core.clip import Clip
from worldr1_core.errors import MissingExtraError, ScoreUnavailable, WeightsError
from worldr1_core.reward import RewardInputs
from worldr1_core.video import Video
from worldr1_rewards.rewards.aesthetic_quality import AestheticQualityReward
from worldr1_rewards.rewards.flow_smoothness import FlowSmoothnessReward, interpolate_middle
from worldr1_rewards.rewards.frame_consistency import BackgroundConsistencyReward, SubjectConsistencyReward
from worldr1_rewards.rewards.imaging_quality import ImagingQualityReward

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A whole CLIP model, as released: the text tower is in the checkpoint, too."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(**SMALL, image_size=64, patch_size=16, projection_dim=24)
    text = CLIPTextConfig(**SMALL, vocab_size=50, bos_token_id=1, eos_token_id=2)
    config = CLIPConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=24)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def frames():
    return torch.rand(5, 3, 96, 140, generator=torch.Generator().manual_seed(0))


def score(reward, frames):
    return reward.score(Clip(Video(frames), "a cat"), RewardInputs()).value


def clip_embeddings(folder, frames):
    """The computation of VBench: torchvision's transforms on tensors, CLIP's image embedding, unit length."""
    transform = Compose(
        [
            Resize(64, interpolation=InterpolationMode.BICUBIC, antialias=False),
            CenterCrop(64),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        pooled = model.vision_model(pixel_values=transform(frames)).pooler_output
        return functional.normalize(model.visual_projection(pooled), dim=-1)


def consistency(embeddings):
    """A plain loop over the frames."""
    total = 0.0
    for index in range(1, len(embeddings)):
        for other in (index - 1, 0):
            total += max(0.0, float(functional.cosine_similarity(embeddings[index], embeddings[other], dim=0)))
    return total / 2 / (len(embeddings) - 1)


def test_background_consistency(clip_folder, frames):
    expected = consistency(clip_embeddings(clip_folder, frames))
    assert score(BackgroundConsistencyReward(checkpoint=str(clip_folder)), frames) == pytest.approx(expected, abs=1e-5)
    # Batches change rounding alone.
    small = score(BackgroundConsistencyReward(checkpoint=str(clip_folder), batch_size=2), frames)
    assert small == pytest.approx(expected, abs=1e-5)


def test_aesthetic_quality(clip_folder, frames, tmp_path):
    torch.manual_seed(1)
    head = torch.nn.Linear(24, 1)
    torch.save(head.state_dict(), tmp_path / "head.pth")
    expected = float(head(clip_embeddings(clip_folder, frames)).mean().detach()) / 10
    reward = AestheticQualityReward(checkpoint=str(clip_folder), head=str(tmp_path / "head.pth"))
    assert score(reward, frames) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_subject_consistency(kind, frames, tmp_path):
    torch.manual_seed(2)
    if kind == "vit":
        model = ViTModel(ViTConfig(**SMALL, image_size=64, patch_size=16), add_pooling_layer=False)
        known, side = {"interpolate_pos_encoding": True}, 64
    else:
        model = Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64))
        known, side = {}, 224
    model.eval().save_pretrained(tmp_path)
    transform = Compose([Resize(side, antialias=False), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    with torch.no_grad():
        embeddings = model(pixel_values=transform(frames), **known).last_hidden_state[:, 0]
    reward = SubjectConsistencyReward(checkpoint=str(tmp_path))
    assert score(reward, frames) == pytest.approx(consistency(embeddings), abs=1e-5)


def test_frozen_clip_is_consistent_and_one_frame_is_not_comparable(clip_folder, frames):
    reward = BackgroundConsistencyReward(checkpoint=str(clip_folder))
    assert score(reward, frames[:1].repeat(4, 1, 1, 1)) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(ScoreUnavailable, match="needs 2 frames"):
        score(reward, frames[:1])


@pytest.mark.parametrize("reward", [SubjectConsistencyReward, BackgroundConsistencyReward])
def test_missing_and_unfitting_weights_are_errors(reward, frames, tmp_path):
    with pytest.raises(WeightsError, match=r"no such folder|no file"):
        score(reward(checkpoint=str(tmp_path / "none")), frames)


def test_head_must_fit_the_model(clip_folder, frames, tmp_path):
    torch.save({"weight": torch.zeros(1, 24)}, tmp_path / "head.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        score(AestheticQualityReward(checkpoint=str(clip_folder), head=str(tmp_path / "head.pth")), frames)
    with pytest.raises(WeightsError, match="no such file"):
        score(AestheticQualityReward(checkpoint=str(clip_folder), head=str(tmp_path / "none.pth")), frames)


def test_imaging_quality_reads_frames_of_at_most_512_pixels(monkeypatch):
    shapes = []

    def create_metric(name, device):
        assert name == "musiq-spaq"

        def model(images):
            shapes.append(tuple(images.shape))
            return 100 * images.mean()

        return model

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create_metric))
    assert score(ImagingQualityReward(), torch.full((2, 3, 300, 1024), 0.4)) == pytest.approx(0.4)
    assert shapes == [(1, 3, 150, 512)] * 2
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(MissingExtraError, match="pip install 'pyiqa'"):
        score(ImagingQualityReward(), torch.zeros(2, 3, 32, 32))


def ramp(offset):
    """A smooth picture, shifted to the right by pixels."""
    x = torch.arange(64) - offset
    row = 0.5 + 0.3 * torch.sin(x / 7)
    return row.expand(1, 3, 64, 64)


def test_middle_frame_is_predicted_by_half_the_flow():
    def flow(first, second):
        sign = 1 if torch.equal(first, ramp(0.0)) else -1
        return torch.tensor([4.0 * sign, 0.0])[None, :, None, None].expand(1, 2, 64, 64)

    predicted = interpolate_middle(ramp(0.0), ramp(4.0), flow)
    inner = (..., slice(8, -8))
    assert float((predicted - ramp(2.0))[inner].abs().max()) < 1e-3


def test_flow_smoothness_sees_a_frame_that_flickers():
    reward = FlowSmoothnessReward()
    reward._loaded = lambda first, second: torch.zeros_like(first[:, :2])
    still = torch.full((5, 3, 32, 32), 0.5)
    assert score(reward, still) == 1.0
    flickering = still.clone()
    flickering[1] += 0.2
    assert score(reward, flickering) == pytest.approx(1 - 0.1, abs=1e-6)
