"""Small clips on disk that stand for real ones, and rewards whose answer is known."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from torch import Tensor

from worldr1_core.camera.formats import save_trajectory
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.errors import ScoreNotApplicable
from worldr1_core.reward import Reward, RewardInputs
from worldr1_core.scoring import ScoringEngine
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.probes.world import WorldClip, render_world

SIZE, NUM_FRAMES = (48, 64), 6


@lru_cache(maxsize=16)
def _world(moves: str, seed: int) -> WorldClip:
    return render_world("rich", moves, seed=seed, size=SIZE, num_frames=NUM_FRAMES, samples=1)


def write_clip(folder: Path, name: str, moves: str = "pan left", seed: int = 0, *, with_path: bool = True) -> Tensor:
    """Write `NAME.mp4`, without loss, and `NAME.json`; the frames as they are read."""
    world = _world(moves, seed)
    frames = (world.frames * 255).round() / 255
    write_video(Video(frames), folder / f"{name}.mp4", lossless=True)
    if with_path:
        path = CameraTrajectory(world.commanded, world.intrinsics, SIZE, world.scene_depth)
        save_trajectory(path, folder / f"{name}.json")
    return frames


class NearestClean(Reward):
    """Minus the mean difference from the most similar of the clips as filmed: nothing broken can earn as much.

    Args:
        clips: Frames as filmed.
        needs_path: Whether it does not apply to a clip without a commanded path.
    """

    device = "cpu"

    def __init__(self, clips: list[Tensor], needs_path: bool = False) -> None:
        self.clips, self.needs_path = clips, needs_path
        self.asked: list[Clip] = []

    def score(self, clip: Clip, inputs: RewardInputs) -> float:
        self.asked.append(clip)
        if self.needs_path and clip.target is None:
            raise ScoreNotApplicable("no path is commanded")
        return -min(float((clip.video.frames - known).abs().mean()) for known in self.clips)


def scorer_of(*rewards: tuple[str, Reward]) -> ScoringEngine:
    """A composition of weight 1 each."""
    return ScoringEngine(ScoringComponents([WeightedReward(name, 1.0, reward) for name, reward in rewards], None, None))
