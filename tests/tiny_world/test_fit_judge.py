"""The judge can be made again, and its examples are true."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from tools.tiny_world.fit_judge import degrade, fit, main, measure_fill, reading_loss, render_examples
from tools.tiny_world.object_losses import draw_example, lessen, recoloured, reshaped
from worldr1_backbones.tiny import CHECKPOINT, TinyWanVAE
from worldr1_backbones.tiny.captions import SHAPES, parse_caption
from worldr1_backbones.tiny.data import clip_of
from worldr1_backbones.tiny.scene_reader import JUDGE, WEIGHTS, SceneReader, load_reader

CLIP = clip_of(parse_caption("Camera fixed. A red box and a blue ball in a green room with plain walls."), seed=0)


@pytest.fixture(scope="module")
def vae():
    return TinyWanVAE.from_pretrained(CHECKPOINT / "vae", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def examples():
    return render_examples(16)


def test_masks_cover_what_differs_between_clips_with_and_without_an_object():
    whole = lessen(CLIP, None, torch.Generator())
    removed = lessen(CLIP, "removed", torch.Generator(), solid=0)
    changed = (whole.frames - removed.frames).abs().amax(1) > 0.3
    assert (whole.masks[0][changed] == 1).float().mean() > 0.95
    assert removed.masks[0].sum() == 0
    assert torch.equal(removed.masks[1], whole.masks[1])


def test_losses_leave_what_they_say():
    generator = torch.Generator().manual_seed(0)
    whole = lessen(CLIP, None, generator).masks[1].sum((1, 2))
    vanished = lessen(CLIP, "vanishes", generator, solid=1).masks[1].sum((1, 2)) / whole
    assert vanished[0] == 1
    assert vanished[-1] == 0
    faded = lessen(CLIP, "fades", generator, solid=1).masks[1].sum((1, 2)) / whole
    assert 0.15 <= faded[0] <= 0.7
    assert torch.allclose(faded, faded[:1])
    dissolved = lessen(CLIP, "dissolves", generator, solid=1).masks[1].sum((1, 2)) / whole
    assert 0.1 < dissolved[0] < 0.9
    with pytest.raises(ValueError, match="melts"):
        lessen(CLIP, "melts", generator)


def test_a_changed_object_is_not_in_the_caption():
    generator = torch.Generator().manual_seed(0)
    for change, attribute in ((recoloured, "colour"), (reshaped, "shape")):
        changed = change(CLIP, generator)
        before, after = ([getattr(s, attribute) for s in clip.scene.solids] for clip in (CLIP, changed))
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
        assert changed.caption == CLIP.caption


def test_examples_are_a_function_of_their_number(examples):
    again = draw_example(5, 0)
    assert torch.equal((again.frames.clamp(0, 1) * 255).round().byte(), examples.frames[5])
    assert examples.cover.shape == (16, 2, 5, 8, 8)
    assert examples.cover.min() >= 0
    assert examples.cover.max() <= 1


def test_slimmer_shapes_fill_less():
    fill = dict(zip(SHAPES, measure_fill().tolist(), strict=True))
    assert fill["cone"] < fill["ball"] < fill["box"]
    assert fill["ball"] == pytest.approx(0.785, abs=0.12)


def test_degraded_frames_are_other_frames_of_the_same_scene(examples, vae):
    frames = examples.frames.float() / 255
    before = frames.clone()
    with torch.no_grad():
        changed = degrade(frames, vae, torch.Generator().manual_seed(0))
    assert torch.equal(frames, before)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert 0.005 < (changed - frames).abs().mean() < 0.15


def test_the_loss_falls(examples, vae):
    torch.manual_seed(0)
    reader = SceneReader(width=16, num_blocks=1)
    frames = examples.frames.float() / 255
    before = reading_loss(reader, frames, examples).item()
    fitted = fit(reader, examples, vae.requires_grad_(False), 60, batch_size=8, most_steps=25)
    assert not fitted.training
    assert reading_loss(fitted, frames, examples).item() < 0.9 * before


@pytest.mark.slow
def test_the_command_writes_weights_and_figures(tmp_path):
    arguments = ["--minutes", "0.06", "--examples", "24", "--width", "8", "--test-clips", "8", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert load_reader(tmp_path).map.in_channels == 8
    assert json.loads((tmp_path / "evaluation.json").read_text())["clips"] == 8
    late = CliRunner().invoke(main, ["--minutes", "0.05", "--examples", "4000", "--out", str(tmp_path)])
    assert late.exit_code == 2
    assert "Allow more minutes" in " ".join(late.output.split())


def test_the_shipped_weights_are_small_and_measured():
    assert (JUDGE / WEIGHTS).stat().st_size <= 600_000
    figures = json.loads((JUDGE / "evaluation.json").read_text())
    for seen in ("rendered", "vae"):
        assert min(figures[seen]["auc"][k] for k in ("removed", "vanishes", "recoloured")) >= 0.95
    assert load_reader().fill.min() > 0.3
