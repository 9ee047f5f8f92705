"""The figure of `real_footage.py`: input, re-render, error and depth of one clip, by each reconstructor."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from footage.measures import render_figures
from worldr1_core.frame_grid import frame_grid, pick_frames
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.pictures import colour_depth, depth_ends

NUM_FRAMES = 4


def panel(name: str, result: ClipScores) -> Image.Image:
    """Input, re-render, error and depth of four frames, under a line that says what they are."""
    frames, found = result.clip.video.frames, result.reconstruction
    indices = pick_frames(len(frames), NUM_FRAMES)
    rows, names = [frames[indices]], ["input"]
    title = f"{name}: {result.clip.name}, "
    if found is None:
        title += "no reconstruction"
    else:
        render = found.rerender()
        shown, coverage = render.frames[indices].cpu(), render.coverage[indices, None].cpu()
        rows.append(shown * coverage)
        rows.append((3 * coverage * (shown - frames[indices]).abs()).clamp(0, 1))
        names += ["re-render", "error x3"]
        psnr = render_figures(frames, found)["psnr"]
        title += "nothing covered" if psnr is None else f"PSNR {psnr:.2f} dB"
        title += f", coverage {100 * float(render.coverage.mean()):.1f} %"
        if found.depth is not None:
            depth = found.depth.cpu().float()
            rows.append(colour_depth(depth[indices], depth_ends(depth)))
            names.append("depth")
    # The title stands above the numbers of the frames, so it is not the title of a row.
    sheet = frame_grid(rows, names=names, columns=[str(index) for index in indices])
    font, height = ImageFont.load_default(16), 26
    canvas = Image.new("RGB", (sheet.width, sheet.height + height), "white")
    canvas.paste(sheet, (0, height))
    ImageDraw.Draw(canvas).text((6, height / 2), title, "black", font, "lm")
    return canvas


def stack(panels: Sequence[Image.Image]) -> Image.Image:
    """Pictures one above the other."""
    canvas = Image.new("RGB", (max(p.width for p in panels), sum(p.height for p in panels)), "white")
    top = 0
    for picture in panels:
        canvas.paste(picture, (0, top))
        top += picture.height
    return canvas
