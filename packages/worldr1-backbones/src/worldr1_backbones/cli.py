"""`worldr1 generate`: one JSON line per video on stdout, progress and logs on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worldr1_core.manifest import Manifest
    from worldr1_core.registry import Registry

FORMS = ("mp4", "webm", "gif", "frames", "safetensors")


@click.command()
@click.argument("manifest", required=False, type=click.Path(path_type=Path))
@click.option("--prompt", "prompts", multiple=True, help="Prompt; may be given several times.")
@click.option(
    "--prompts", "prompts_file", type=click.Path(path_type=Path), help="File with one prompt per line; # comments."
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the first video.  [default: the manifest's]")
@click.option("--num-videos", type=click.IntRange(1, 1000), default=1, show_default=True, help="Videos per prompt.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the videos.")
@click.option(
    "--format", "file_format", type=click.Choice(FORMS), default="mp4", show_default=True, help="Video format."
)
@click.option("--lossless", is_flag=True, help="Keep 8-bit values bit for bit (mp4, webm).")
@click.option("--fps", type=click.FloatRange(1, 120), help="Frames per second.  [default: the model's]")
@click.option("--trajectory", type=click.Path(path_type=Path), help="Commanded path (JSON, transforms.json, TUM, npy).")
@click.option("--adapter", type=click.Path(path_type=Path), help="Folder of a trained adapter.")
@click.option(
    "--backbone", help="Registered backbone, or diffusers checkpoint (folder or hub id), instead of the manifest's."
)
@click.option("--noise", help="Registered noise conditioner, instead of the manifest's.")
@click.option("--num-inference-steps", type=click.IntRange(1, 1000), help="Denoising steps.  [default: the sampler's]")
@click.option("--batch-size", type=click.IntRange(1, 256), default=1, show_default=True, help="Videos made together.")
def generate(
    manifest: Path | None,
    prompts: tuple[str, ...],
    prompts_file: Path | None,
    seed: int | None,
    num_videos: int,
    out: Path,
    file_format: str,
    lossless: bool,
    fps: float | None,
    trajectory: Path | None,
    adapter: Path | None,
    backbone: str | None,
    noise: str | None,
    num_inference_steps: int | None,
    batch_size: int,
) -> None:
    """Generate videos from prompts; camera words ("Camera push in, then pan left.") command the path.

    MANIFEST names backbone, noise conditioner and sampler; without one, the embedded tiny world is used. Beside every
    video stand a JSON (prompt, seed, trajectory, versions) and a plot of the commanded path; the same command on the
    same machine makes the same bytes. Video k of a prompt has seed + k.
    """
    from worldr1_backbones.generated_files import file_stem, sheet_frames, write_contact_sheet, write_generated
    from worldr1_backbones.generation import Generator, read_generation_manifest
    from worldr1_core.errors import OutputError
    from worldr1_core.files import check_writable_folder
    from worldr1_core.plugins import installed
    from worldr1_core.progress import Progress
    from worldr1_core.written_files import CONTACT_SHEET

    registry = installed().registry
    chosen = _with_flags(read_generation_manifest(manifest, registry), registry, backbone, noise)
    texts = _prompts(prompts, prompts_file)
    check_writable_folder(out)
    if lossless and file_format not in ("mp4", "webm"):
        raise OutputError(
            f"--lossless goes with mp4 and webm, received --format {file_format}; frames are lossless anyway."
        )
    generator = Generator.from_manifest(chosen, registry=registry, num_inference_steps=num_inference_steps)
    first = chosen.seed if seed is None else seed
    requests = generator.make_requests(texts, seed=first, num_videos=num_videos, trajectory=trajectory)
    if adapter is not None:
        generator.load_adapter(adapter)
    settings = _settings(chosen, generator.num_inference_steps, adapter)
    rows, labels = [], []
    with Progress("Generating", len(requests)) as progress:
        progress.begin(f"{len(requests)} videos" if len(requests) > 1 else "1 video")
        for index, made in enumerate(generator.generate(requests, batch_size=batch_size, fps=fps)):
            stem = file_stem(made.request.prompt, made.request.seed, index // num_videos)
            record = write_generated(made, out, stem, file_format, settings, lossless=lossless)
            rows.append(sheet_frames(made.video.frames))
            labels.append(f"{made.request.prompt}  (seed {made.request.seed})")
            line = {"video": str(out / record["video"]), "prompt": record["prompt"], "seed": record["seed"]}
            click.echo(json.dumps(line, ensure_ascii=False))
            progress.advance()
    write_contact_sheet(rows, labels, out / CONTACT_SHEET)


def _with_flags(manifest: Manifest, registry: Registry, backbone: str | None, noise: str | None) -> Manifest:
    from worldr1_backbones.backbone_choice import backbone_spec
    from worldr1_core.component_specs import component_spec
    from worldr1_core.manifest import ComponentSpec

    changes: dict[str, ComponentSpec] = {}
    if backbone is not None:
        changes["backbone"] = backbone_spec(backbone, registry)
    if noise is not None:
        changes["noise"] = component_spec(noise, "noise conditioner", registry)
    return manifest.model_copy(update=changes)


def _prompts(prompts: tuple[str, ...], prompts_file: Path | None) -> list[str]:
    from worldr1_backbones.generation import check_prompts
    from worldr1_core.errors import UserError
    from worldr1_core.prompt_files import read_prompts

    if (prompts_file is None) == (not prompts):
        raise UserError("Give prompts: either --prompt, once or several times, or --prompts FILE.")
    return check_prompts(prompts) if prompts_file is None else read_prompts(prompts_file)


def _settings(manifest: Manifest, num_inference_steps: int, adapter: Path | None) -> dict[str, Any]:
    """Return the settings that a video depends on besides its prompt and seed."""
    named = {key: getattr(manifest, key) for key in ("backbone", "noise", "sampler")}
    return {
        **{key: None if spec is None else spec.model_dump() for key, spec in named.items()},
        "num_inference_steps": num_inference_steps,
        "adapter": None if adapter is None else str(adapter),
    }
