"""The metric `camera-accuracy`: of the nine single camera moves, is the commanded one the one that the clip shows?

It estimates no path: each move's path is tried by plane sweep (`worldr1_core.camera.plane_sweep`). So it is independent
of reconstructors and of the reward `trajectory`, and can tell whether training on them was honest.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import pairwise

import torch

from worldr1_core.camera.plane_sweep import WINDOW, match_paths
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import DEFAULT_CONSTANTS, SINGLE_MOVES, Move, detect_moves, trajectory_from_moves
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Evidence, Reward, Score

PAN_SCALES = (0.55, 0.7, 0.85, 1.0, 1.15, 1.3, 1.45)
"""Shares of the vocabulary's angle at which a pan is tried; depth takes up the amount of every other move."""
MIN_CONTRAST = 0.02
"""Standard deviation of the frames below which no motion can be seen."""


class CameraAccuracyReward(Reward):
    """1 if the commanded move explains the clip better than the eight other single moves do, else 0: in [0, 1].

    Applies to prompts that command exactly one of the nine single moves. Its mean over clips is the share of obeyed
    commands; nine guesses at random would get 0.11.
    """

    def score(self, clip: Clip, evidence: Evidence) -> Score:
        """Score one clip.

        Raises:
            ScoreNotApplicable: The prompt commands no move, several, or a composite.
            ScoreUnavailable: The clip is too short, too small, or shows nothing.
        """
        moves = detect_moves(clip.prompt)
        if len(moves) != 1 or moves[0] not in SINGLE_MOVES:
            commanded = ", ".join(moves) or "no move"
            raise ScoreNotApplicable(f"needs one of the nine single camera moves, the prompt commands {commanded}")
        check_sweepable(clip)
        frames = clip.video.frames
        intrinsics = None if clip.intrinsics is None else tuple(clip.intrinsics.double().flatten().tolist())
        paths = _candidates(len(frames), clip.video.size, intrinsics)
        tried = match_paths(frames[None].to(self.device), [path for _, path in paths])[0]
        tried = tried.nan_to_num(nan=-torch.inf).cpu()
        of_move = [[move for move, _ in paths].index(move) for move in SINGLE_MOVES] + [len(paths)]
        psnr = torch.stack([tried[start:stop].max() for start, stop in pairwise(of_move)])
        best = SINGLE_MOVES[int(psnr.argmax())]
        index = SINGLE_MOVES.index(moves[0])
        rivals = torch.cat([psnr[:index], psnr[index + 1 :]])
        details = {"best": str(best), "margin": float(psnr[index] - rivals.max())}
        return Score(float(best == moves[0]), details=details)


def check_sweepable(clip: Clip) -> None:
    """Whether a plane sweep can tell paths apart in a clip.

    Raises:
        ScoreUnavailable: The clip is too short, too small, or shows nothing.
    """
    frames = clip.video.frames
    if len(frames) < 3 or min(clip.video.size) < WINDOW:
        raise ScoreUnavailable(f"needs 3 frames of {WINDOW} pixels a side, received {tuple(frames.shape)}")
    if float(frames.std()) < MIN_CONTRAST:
        raise ScoreUnavailable("no texture: no motion can be seen")


@functools.lru_cache(maxsize=8)
def _candidates(
    num_frames: int, size: tuple[int, int], intrinsics: tuple[float, ...] | None
) -> tuple[tuple[Move, CameraTrajectory], ...]:
    known = None if intrinsics is None else torch.tensor(intrinsics, dtype=torch.float64).view(3, 3)
    found = []
    for move in SINGLE_MOVES:
        for scale in PAN_SCALES if move in (Move.PAN_LEFT, Move.PAN_RIGHT) else (1.0,):
            constants = replace(DEFAULT_CONSTANTS, pan=DEFAULT_CONSTANTS.pan * scale)
            path = trajectory_from_moves([move], num_frames, size, constants)
            found.append((move, path if known is None else replace(path, intrinsics=known)))
    return tuple(found)
