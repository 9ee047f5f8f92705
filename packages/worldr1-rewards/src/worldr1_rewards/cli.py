"""`worldr1 score`: JSON lines on stdout, progress and logs on stderr."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worldr1_core.clip import Clip
    from worldr1_rewards.inputs import ScoreRequest


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO…", type=click.Path(path_type=Path))
@click.option("--prompt", help="Prompt of every video; its camera words command the path.")
@click.option("--prompts", "prompts_file", type=click.Path(path_type=Path), help="File with one prompt a line.")
@click.option("--trajectory", type=click.Path(path_type=Path), help="Commanded path (JSON, transforms.json, TUM, npy).")
@click.option(
    "--intrinsics", type=click.Path(path_type=Path), help="Known intrinsics (JSON).  [default: f = 1.2 width]"
)
@click.option("--manifest", type=click.Path(path_type=Path), help="Rewards to use.  [default: weights-free]")
@click.option("--rewards", help="Comma-separated reward names, instead of all in the manifest.")
@click.option("--out", "out", type=click.Path(path_type=Path), help="Folder for estimated paths and renders.")
@click.option("--report", type=click.Path(path_type=Path), help="HTML report to write.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Clips scored together.")
def score(
    videos: tuple[Path, ...],
    prompt: str | None,
    prompts_file: Path | None,
    trajectory: Path | None,
    intrinsics: Path | None,
    manifest: Path | None,
    rewards: str | None,
    out: Path | None,
    report: Path | None,
    batch_size: int,
) -> None:
    """Score videos for 3D consistency and camera obedience.

    VIDEO is a video file, an image folder, a folder of videos, or a .csv/.jsonl list with the keys video, prompt,
    trajectory and intrinsics. Every clip gives one JSON line on stdout; a score that cannot be had is null, with its
    reason. Clips that cannot be read are reported on stderr, and the exit code is 2.
    """
    from worldr1_core.files import check_writable_folder
    from worldr1_core.progress import progress_bar
    from worldr1_rewards.inputs import collect_requests, output_names
    from worldr1_rewards.outputs import write_clip_outputs
    from worldr1_rewards.report import ReportWriter
    from worldr1_rewards.report.views import clip_views
    from worldr1_rewards.scoring import Scorer, manifest_text
    from worldr1_rewards.serialise import score_line

    requests = collect_requests(
        videos, prompt=prompt, prompts_file=prompts_file, trajectory=trajectory, intrinsics=intrinsics
    )
    scorer = Scorer.from_manifest(manifest, rewards=_split(rewards))
    for folder in ([out] if out else []) + ([report.parent] if report else []):
        check_writable_folder(folder)
    page = ReportWriter(manifest=manifest_text(manifest)) if report else None
    names = output_names(requests)
    clips = _ClipReader(requests)
    with progress_bar("Scoring", len(requests)) as advance:
        for result in scorer.score(clips, batch_size=batch_size):
            name = names[clips.in_flight.popleft()]
            views = clip_views(result) if out is not None or page is not None else None
            if out is not None:
                write_clip_outputs(result, out / name, views)
            if page is not None:
                page.add(result, views)
            click.echo(score_line(result))
            advance()
    if page is not None and report is not None and clips.num_failed < len(requests):
        page.write(report)
    if clips.num_failed:
        raise click.exceptions.Exit(2)


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


class _ClipReader:
    """Reads one clip after the other; a clip that cannot be read is reported and left out."""

    def __init__(self, requests: Sequence[ScoreRequest]) -> None:
        self.requests = requests
        self.in_flight: deque[int] = deque()
        self.num_failed = 0

    def __iter__(self) -> Iterator[Clip]:
        from worldr1_core.errors import UserError
        from worldr1_rewards.inputs import load_clip

        for index, request in enumerate(self.requests):
            try:
                clip = load_clip(request)
            except UserError as error:
                self.num_failed += 1
                click.echo(f"Error: {error}", err=True)
                continue
            self.in_flight.append(index)
            yield clip
