"""`Scorer`: the Python interface of `worldr1 score`, with core's scoring engine and a weights-free default manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents, compose_scoring
from worldr1_core.errors import UserError
from worldr1_core.judge import Judge
from worldr1_core.manifest import Manifest, parse_manifest, read_manifest_text
from worldr1_core.manifest_forms import ManifestLike, is_manifest, read_manifest
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.registry import Registry
from worldr1_core.reward import Requirement
from worldr1_core.reward_choice import RewardLike
from worldr1_core.scoring import ClipScores, ScoringEngine
from worldr1_rewards.inputs import IntrinsicsLike, TrajectoryLike
from worldr1_rewards.serialise import score_record
from worldr1_rewards.video_inputs import VideoLike, collect_clips

DEFAULT_MANIFEST = "default.yaml"


class Scorer:
    """Scores videos for 3D consistency and camera obedience, as `worldr1 score` does.

    Without arguments it uses the default manifest, which needs no weights: `reconstruction` and `trajectory`.

    Args:
        rewards: Rewards to use, one or a list. Each is a registered name, a mapping as in a manifest
            (`{"name": "trajectory", "amount": "exact"}`), a `Reward` object or class, a function in TRL's convention,
            or a pair of one of these and a weight. A manifest (file or mapping) is also accepted. By default all
            rewards of the manifest are used.
        manifest: Source of the options and weights of rewards given by name, and of reconstructor, judge and device;
            the default manifest if not given.
        reconstructor: Name or object, instead of the manifest's.
        judge: Name or object, instead of the manifest's.
        device: Torch device, `"auto"`, `"cpu"` or `"cuda:0"`, instead of the manifest's. Objects keep their own.
        registry: Registry of names; by default all components that are installed or registered in process.

    Attributes:
        engine: The engine of `worldr1_core` that scores `Clip` objects.

    Raises:
        ManifestError: The manifest does not validate, or a reward requires something that it does not name.
        UserError: A reward or another component is not available.

    Example:
        >>> scorer = Scorer()
        >>> record = scorer("examples/clips/push_in.mp4", prompt="Camera push in. A room with boxes.")
        >>> list(record["scores"]), record["total"] > 1.5, record["reasons"]
        (['reconstruction', 'trajectory'], True, {})
    """

    def __init__(
        self,
        rewards: RewardLike | Iterable[RewardLike] | ManifestLike | None = None,
        *,
        manifest: ManifestLike | None = None,
        reconstructor: str | Reconstructor | None = None,
        judge: str | Judge | None = None,
        device: str | None = None,
        registry: Registry | None = None,
    ) -> None:
        registry = installed().registry if registry is None else registry
        if is_manifest(rewards):
            if manifest is not None:
                raise UserError(f"Two manifests are given: {rewards!r} and {manifest!r}. Keep one.")
            rewards, manifest = None, rewards
        self.engine = ScoringEngine(
            compose_scoring(
                read_scoring_manifest(manifest, registry),
                registry,
                only=rewards,  # type: ignore[arg-type]  # no manifest any more
                reconstructor=reconstructor,
                judge=judge,
                device=device,
            )
        )

    @property
    def components(self) -> ScoringComponents:
        """The rewards, and the reconstructor and judge that they require."""
        return self.engine.components

    @property
    def requires(self) -> frozenset[Requirement]:
        """Union of the inputs that the rewards require."""
        return self.engine.requires

    def __call__(
        self,
        videos: VideoLike | Iterable[VideoLike],
        prompt: str | Sequence[str | None] | None = None,
        *,
        trajectory: TrajectoryLike | Sequence[TrajectoryLike | None] | None = None,
        intrinsics: IntrinsicsLike | Sequence[IntrinsicsLike | None] | None = None,
        batch_size: int = 1,
    ) -> Any:
        """Score videos and return what `worldr1 score` prints.

        Args:
            videos: A path, a tensor `(T, 3, H, W)` in [0, 1], a `Video` or a `Clip`; or several: a list of these, a
                batch `(B, T, 3, H, W)`, a folder of videos, or a `.csv` or `.jsonl` list.
            prompt: Prompt of every video, or one per video. Its camera words command the path. Left out, a file takes
                the prompt of the JSON beside it, as `worldr1 generate` writes it.
            trajectory: Commanded path, or the file that holds it, instead of the camera words; or one per video.
            intrinsics: Known intrinsics `(3, 3)`, or the file that holds them; or one per video.
            batch_size: Videos scored together, >= 1.

        Returns:
            A dictionary with `video`, `prompt`, `scores`, `total`, `reasons`, `timings`, `details` and `versions`; for
            several videos a list of them. A missing score is `None`, and `reasons` says why.

        Raises:
            VideoError: Something is no video, or cannot be read.
            TrajectoryError: A path or intrinsics are malformed, or do not fit the video.
            UserError: Another argument cannot be used.
        """
        source = collect_clips(videos, prompt, trajectory=trajectory, intrinsics=intrinsics)
        records = []
        for result in self.engine.score(iter(source), batch_size=batch_size):
            records.append(score_record(result))
            del result  # its frames and reconstruction would stay in memory while the next clip is read
        return records[0] if source.is_single else records

    def score(
        self,
        videos: VideoLike | Iterable[VideoLike],
        prompt: str | Sequence[str | None] | None = None,
        *,
        trajectory: TrajectoryLike | Sequence[TrajectoryLike | None] | None = None,
        intrinsics: IntrinsicsLike | Sequence[IntrinsicsLike | None] | None = None,
        batch_size: int = 1,
    ) -> Iterator[ClipScores]:
        """Score videos one after the other, and keep the reconstructions for pictures and further analysis.

        Args:
            videos: As for a call. An iterator is read as results are taken, so that only `batch_size` clips are held
                at once.
            prompt: As for a call.
            trajectory: As for a call.
            intrinsics: As for a call.
            batch_size: As for a call.

        Returns:
            An iterator of results, one per video, in order.

        Raises:
            UserError: See a call.
        """
        if isinstance(videos, Iterator) and prompt is None and trajectory is None and intrinsics is None:
            return self.engine.score(_stream(videos), batch_size=batch_size)
        source = collect_clips(videos, prompt, trajectory=trajectory, intrinsics=intrinsics)
        return self.engine.score(iter(source), batch_size=batch_size)


def manifest_text(path: str | Path | None = None) -> str:
    """The text of a manifest file, or of the shipped default.

    Raises:
        ManifestError: The file cannot be read.
    """
    if path is None:
        return resources.files("worldr1_rewards").joinpath(DEFAULT_MANIFEST).read_text(encoding="utf-8")
    return read_manifest_text(path)


def read_scoring_manifest(manifest: ManifestLike | None, registry: Registry) -> Manifest:
    """Validate a manifest given in any form; the shipped default for `None`.

    Raises:
        ManifestError: The file cannot be read, or the manifest is not valid.
    """
    if manifest is None:
        return parse_manifest(manifest_text(), registry, name=f"worldr1_rewards/{DEFAULT_MANIFEST}")
    return read_manifest(manifest, registry)


def _stream(videos: Iterator[Any]) -> Iterator[Clip]:
    for video in videos:
        yield from [video] if isinstance(video, Clip) else collect_clips([video])
        del video  # a clip would stay in memory while the next one is read
