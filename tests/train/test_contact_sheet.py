"""The picture of before and after: what is drawn, from which prompts, and that the adapter makes the difference."""

from __future__ import annotations

import base64
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import structlog
import torch
from click.testing import CliRunner
from PIL import Image

from train.sites import MANIFEST, write_prompts
from train.test_plan import COMPONENTS
from worldr1_core.clip import Clip
from worldr1_core.errors import OutputError, UserError
from worldr1_core.plugins import Installed
from worldr1_core.video import Video
from worldr1_train.cli import train
from worldr1_train.cli_compare_videos import compare_videos
from worldr1_train.contact_sheet import (
    AFTER,
    BEFORE,
    MOST_FRAMES,
    NOISE_ONLY,
    Comparison,
    ShownVideos,
    draw_comparisons,
    generate_comparisons,
    read_comparisons,
    strip,
)
from worldr1_train.plan import read_manifest
from worldr1_train.run_pictures import draw_run


@pytest.fixture
def trained(tmp_path, make_registry, monkeypatch):
    """Manifest, registry and adapter of a short run on the fake world."""
    write_prompts(tmp_path)
    manifest = tmp_path / "run.yaml"
    manifest.write_text(MANIFEST, encoding="utf-8")
    registry = make_registry(COMPONENTS)
    monkeypatch.setattr("worldr1_core.plugins.installed", lambda: Installed(registry))
    arguments = [str(manifest), "--output-dir", str(tmp_path / "run"), "--set", "train.max_steps=4"]
    CliRunner().invoke(train, arguments, catch_exceptions=False, standalone_mode=False)
    return manifest, registry, tmp_path / "run" / "adapter"


def test_videos_are_of_the_same_prompts_with_and_without_the_adapter(trained):
    manifest, registry, adapter = trained
    made = generate_comparisons(read_manifest(manifest, registry), registry, manifest.parent, adapter, 2)
    assert [one.prompt for one in made] == ["a cat", "a boat"]
    for one in made:
        assert list(one.rows) == [BEFORE, AFTER]
        assert one.rows[BEFORE].shape == one.rows[AFTER].shape
        assert not torch.equal(one.rows[BEFORE], one.rows[AFTER])
    again = generate_comparisons(read_manifest(manifest, registry), registry, manifest.parent, adapter, 2)
    assert torch.equal(again[0].rows[AFTER], made[0].rows[AFTER])


def test_a_run_leaves_its_curves_and_its_test_videos_before_and_after(trained):
    manifest, registry, adapter = trained
    run = adapter.parent
    shown = read_comparisons(run / "videos")
    made = generate_comparisons(read_manifest(manifest, registry), registry, manifest.parent, adapter, 6)
    assert [one.prompt for one in shown] == [one.prompt for one in made]
    for written, one in zip(shown, made, strict=True):
        assert written.rows.keys() == one.rows.keys()
        for way, frames in one.rows.items():
            assert float((written.rows[way] - frames).abs().mean()) < 0.1, "videos are compressed, nothing else"
    assert {path.name for path in run.glob("*.png")} == {"curves.png", "before-after.png"}
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["steps"] == 4
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(f'<p class="prompt" dir="auto">{one.prompt}</p>' in page for one in made)
    sheet = np.asarray(Image.open(run / "before-after.png").convert("L"), dtype=float)
    assert sheet.std() > 10


def test_videos_that_a_run_has_not_made_every_way_are_left_out(tmp_path):
    clip = Clip(Video(torch.rand(3, 3, 16, 16)), "a cat")
    for way, count in ((BEFORE, 3), (AFTER, 2)):
        keep = ShownVideos(tmp_path / way, total=9, count=count)
        for index in range(9):
            keep(index, clip)
    assert [path.stem for path in sorted((tmp_path / BEFORE).glob("*.mp4"))] == ["0000", "0004", "0008"]
    assert len(read_comparisons(tmp_path)) == 2
    assert read_comparisons(tmp_path / "nothing") == []
    (tmp_path / BEFORE / "0000.txt").unlink()
    with pytest.raises(UserError, match=r"prompt .* '.*0000.txt'.* Restore the file"):
        read_comparisons(tmp_path)


def test_a_picture_that_cannot_be_drawn_loses_nothing(tmp_path, monkeypatch):
    def cannot(*_):
        raise UserError("matplotlib is not installed")

    monkeypatch.setattr("worldr1_train.run_pictures.plot_curves", cannot)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n', encoding="utf-8")
    with structlog.testing.capture_logs() as logs:
        draw_run(tmp_path)
    assert [entry["reason"] for entry in logs] == ["matplotlib is not installed"]
    assert list(tmp_path.glob("*.png")) == []


def test_the_manifests_noise_has_a_row_of_its_own(trained):
    manifest, registry, adapter = trained
    text = manifest.read_text(encoding="utf-8").replace("prompts: {main", "noise: {name: fake-noise}\nprompts: {main")
    manifest.write_text(text, encoding="utf-8")
    [one] = generate_comparisons(read_manifest(manifest, registry), registry, manifest.parent, adapter, 1)
    assert list(one.rows) == [BEFORE, NOISE_ONLY, AFTER]
    assert not torch.equal(one.rows[BEFORE], one.rows[NOISE_ONLY])


def test_the_command_writes_a_picture_and_says_which_prompts_it_shows(trained, tmp_path):
    manifest, _, adapter = trained
    out = tmp_path / "sheet.png"
    arguments = [str(manifest), "--adapter", str(adapter), "--num-prompts", "9", "--out", str(out)]
    done = CliRunner().invoke(compare_videos, arguments, catch_exceptions=False, standalone_mode=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["picture"] == str(out)
    assert len(result["prompts"]) == 4
    with Image.open(out) as picture:
        assert picture.height == 8 * (110 + 2) + 4 * 16 - 2, "two rows of frames and a line of text per prompt"
        assert len(picture.convert("RGB").getcolors(2**24)) > 10


def test_a_suffix_that_cannot_be_drawn_is_told_before_any_video_is_made(trained, tmp_path):
    manifest, _, adapter = trained
    arguments = [str(manifest), "--adapter", str(adapter), "--out", str(tmp_path / "sheet.gif")]
    with pytest.raises(OutputError, match=r"cannot draw '\.gif'"):
        CliRunner().invoke(compare_videos, arguments, catch_exceptions=False, standalone_mode=False)


def test_nothing_to_draw(trained, tmp_path):
    manifest, registry, adapter = trained
    with pytest.raises(UserError, match="at least 1 prompt, received 0"):
        generate_comparisons(read_manifest(manifest, registry), registry, manifest.parent, adapter, 0)
    with pytest.raises(UserError, match="received no video"):
        draw_comparisons([], tmp_path / "sheet.png")


def test_a_strip_shows_first_and_last_frame():
    frames = torch.linspace(0, 1, 17).view(17, 1, 1, 1).expand(17, 3, 4, 6)
    pixels = strip(frames)
    assert pixels.shape == (4, MOST_FRAMES * 6 + (MOST_FRAMES - 1) * 2, 3)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, 0] == 255
    assert strip(frames[:2]).shape[1] == 2 * 6 + 2


def test_every_row_is_drawn_with_its_name_and_the_prompt_once(tmp_path):
    rows = {BEFORE: torch.zeros(2, 3, 4, 4), AFTER: torch.ones(2, 3, 4, 4)}
    draw_comparisons([Comparison("a prompt", rows)], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        margin, line, side, gap = picture.width - 2 * 110 - 2, 16, 110, 2
        assert picture.height == line + 2 * side + gap
        assert picture.getpixel((margin + 50, line + 50)) == (0, 0, 0)
        assert picture.getpixel((margin + 50, line + side + gap + 50)) == (255, 255, 255)
        for row in (line, line + side + gap):
            assert picture.crop((0, row, margin, row + side)).convert("L").getextrema()[0] < 128


def test_a_picture_may_be_svg(tmp_path):
    rows = {BEFORE: torch.zeros(2, 3, 4, 4), AFTER: torch.ones(2, 3, 4, 4)}
    draw_comparisons([Comparison("a prompt", rows)], tmp_path / "sheet.svg")
    root = ET.parse(tmp_path / "sheet.svg").getroot()
    [image] = root
    kind, content = image.get("href").split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert (str(picture.width), str(picture.height)) == (root.get("width"), root.get("height"))
