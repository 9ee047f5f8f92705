"""`worldr1 score`: JSON lines on stdout, progress and logs on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worldr1_rewards.cli_engines import (
    LOCAL,
    RAY,
    engine_option,
    gpus_option,
    refuse,
    refuse_addresses,
    worker_options,
)
from worldr1_rewards.cli_paths import FilePath, VideoPath

if TYPE_CHECKING:
    from worldr1_core.clip import Clip
    from worldr1_core.progress import Progress
    from worldr1_core.scoring import ClipScores
    from worldr1_rewards.inputs import ScoreRequest
    from worldr1_rewards.report import ReportWriter


_LOCAL_OPTIONS = {"out": "--out", "report": "--report", "viewer": "--viewer", "batch_size": "--batch-size"}
_RAY_OPTIONS = {"num_workers": "--workers", "gpus_per_worker": "--gpus-per-worker", "records": "--records"}
LONG_CLIP_FRAMES = 100
"""A clip of at least so many frames takes long enough that a line on stderr says when it begins."""


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO…", type=VideoPath())
@click.option("--prompt", help="Prompt of every video; its camera words command the path.")
@click.option("--prompts", "prompts_file", type=FilePath(), help="File with one prompt per line; # comments.")
@click.option(
    "--trajectory",
    type=FilePath(),
    help="Commanded path: JSON, npz, transforms.json, TUM, EuRoC, KITTI, RealEstate10K, COLMAP, ... (camera-paths.md). "
    "FILE#NAME chooses one of several.",
)
@click.option(
    "--intrinsics",
    type=FilePath(),
    help="Known intrinsics: JSON, npz, npy or text.  [default: those of --trajectory, else estimated]",
)
@click.option("--manifest", type=FilePath(), help="Rewards to use.  [default: weights-free]")
@click.option("--rewards", help="Comma-separated reward names, instead of all in the manifest.")
@click.option("--out", "out", type=FilePath(), help="Folder for estimated paths and renders.")
@click.option("--report", type=FilePath(), help="HTML report to write.")
@click.option(
    "--viewer",
    type=click.Choice(["viser", "rerun"]),
    help="Open the reconstructions in a viewer at the end (worldr1-rewards[viewer]).",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Clips scored together.")
@engine_option("Score in this process, or with the workers of a Ray cluster (RAY_ADDRESS, else this machine).")
@click.option(
    "--workers", "num_workers", type=click.IntRange(min=1), help="Ray: workers.  [default: one per GPU or core]"
)
@gpus_option()
@click.option("--records", help="Ray: folder or bucket that keeps every record; a later run scores only the others.")
@click.pass_context
def score(
    context: click.Context,
    videos: tuple[str | Path, ...],
    prompt: str | None,
    prompts_file: Path | None,
    trajectory: Path | None,
    intrinsics: Path | None,
    manifest: Path | None,
    rewards: str | None,
    out: Path | None,
    report: Path | None,
    viewer: str | None,
    batch_size: int,
    engine: str,
    num_workers: int | None,
    gpus_per_worker: float | None,
    records: str | None,
) -> None:
    """Score videos for 3D consistency and camera obedience.

    VIDEO is a video file, an image folder, a folder of videos, or a .csv/.jsonl list with the keys video, prompt,
    trajectory and intrinsics. Where no prompt is given, that of the JSON beside a generated video is taken. Every clip
    gives one JSON line on stdout; a missing score is null, with its reason. Clips that are missing or cannot
    be read are reported on stderr, the others are scored, and the exit code is 2.

    With --engine ray, VIDEO may also be the address of a video or folder in a bucket, such as s3://bucket/videos.
    """
    if engine == LOCAL:
        refuse(context, _RAY_OPTIONS, "needs --engine ray.")
    else:
        refuse(context, _LOCAL_OPTIONS, f"does not go with --engine {engine}.")
    from worldr1_core.camera.formats import split_choice
    from worldr1_core.progress import Progress
    from worldr1_rewards.inputs import collect_requests, output_names
    from worldr1_rewards.report import ReportWriter
    from worldr1_rewards.scoring import Scorer, manifest_text
    from worldr1_rewards.serialise import score_line
    from worldr1_rewards.viewer import Viewer

    for option, path in (("--trajectory", trajectory), ("--intrinsics", intrinsics)):
        if path is not None and not split_choice(path)[0].exists():
            raise click.UsageError(f"{option} {str(path)!r} does not exist.")
    if engine == RAY:
        _score_on_ray(
            videos,
            prompt=prompt,
            prompts_file=prompts_file,
            trajectory=trajectory,
            intrinsics=intrinsics,
            manifest=manifest,
            rewards=_split(rewards),
            records=records,
            workers=worker_options(num_workers, gpus_per_worker),
        )
        return
    requests = collect_requests(
        refuse_addresses(list(videos)),
        prompt=prompt,
        prompts_file=prompts_file,
        trajectory=trajectory,
        intrinsics=intrinsics,
    )
    viewing = None if viewer is None else Viewer(viewer)
    scorer = Scorer(_split(rewards), manifest=manifest)
    _check_outputs(out, report, requests)
    page = ReportWriter(manifest=manifest_text(manifest)) if report else None
    names = output_names(requests, out)
    with Progress("Scoring", len(requests)) as progress:
        clips = _ClipReader(requests, progress)
        for result in scorer.score(iter(clips), batch_size=batch_size):
            name = names[clips.in_flight.popleft()]
            try:
                _write_pictures(result, None if out is None else out / name, page)
                if viewing is not None:
                    viewing.add(result)
            except MemoryError:
                clips.fail(f"{result.clip.name}: scored, but its pictures do not fit into memory.")
            click.echo(score_line(result))
            progress.advance()
            del result  # its frames and reconstruction would stay in memory while the next clip is read
    if page is not None and report is not None and clips.num_unread < len(requests):
        page.write(report)
    if viewing is not None:
        with contextlib.redirect_stdout(sys.stderr):
            viewing.open()
    if clips.num_failed:
        raise click.exceptions.Exit(2)


def _score_on_ray(videos: Sequence[str | Path], **options: Any) -> None:
    from worldr1_rewards.ray_engine.scoring import score_videos

    num_failed, stdout = 0, sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what its workers print
        for outcome in score_videos(videos, **options):
            if outcome.error:
                num_failed += 1
                click.echo(f"Error: {outcome.error}", err=True)
            else:
                click.echo(outcome.line, file=stdout)
    if num_failed:
        raise click.exceptions.Exit(2)


def _check_outputs(out: Path | None, report: Path | None, requests: Sequence[ScoreRequest]) -> None:
    """Refuse outputs that cannot be written or would replace an input, before any work."""
    from worldr1_core.errors import OutputError
    from worldr1_core.files import check_writable_folder

    if out is not None:
        check_writable_folder(out)
    if report is None:
        return
    check_writable_folder(report.parent)
    if report.is_dir():
        raise OutputError(f"--report {str(report)!r} is a folder. Name the HTML file to write.")
    if report.exists() and any(request.video.exists() and request.video.samefile(report) for request in requests):
        raise OutputError(f"--report {str(report)!r} is one of the videos. Name another file.")


def _write_pictures(result: ClipScores, folder: Path | None, page: ReportWriter | None) -> None:
    from worldr1_rewards.outputs import write_clip_outputs
    from worldr1_rewards.report.views import clip_views

    if folder is None and page is None:
        return
    views = clip_views(result)
    if folder is not None:
        write_clip_outputs(result, folder, views)
    if page is not None:
        page.add(result, views)


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


class _ClipReader:
    """Reads one clip after the other; reports and skips those that cannot be read."""

    def __init__(self, requests: Sequence[ScoreRequest], progress: Progress) -> None:
        self.requests = requests
        self.progress = progress
        self.in_flight: deque[int] = deque()
        self.num_failed = 0
        self.num_unread = 0

    def fail(self, message: str) -> None:
        """Report the failure of a clip."""
        self.num_failed += 1
        click.echo(f"Error: {message}", err=True)

    def __iter__(self) -> Iterator[Clip]:
        for index, request in enumerate(self.requests):
            clip = self._read(request)
            if clip is None:
                self.num_unread += 1
                self.progress.advance()
                continue
            self.in_flight.append(index)
            yield clip
            del clip  # see score

    def _read(self, request: ScoreRequest) -> Clip | None:
        from worldr1_core.errors import UserError
        from worldr1_core.log import get_logger
        from worldr1_rewards.inputs import load_request

        self.progress.begin(request.video.name)
        try:
            clip = load_request(request)
        except UserError as error:
            self.fail(str(error))
            return None
        height, width = clip.video.size
        self.progress.begin(f"{request.video.name} ({clip.video.num_frames} frames, {width}×{height})")
        if clip.video.num_frames >= LONG_CLIP_FRAMES:
            get_logger(__name__).info(
                "scoring a long clip", clip=clip.name, frames=clip.video.num_frames, size=f"{width}x{height}"
            )
        return clip
