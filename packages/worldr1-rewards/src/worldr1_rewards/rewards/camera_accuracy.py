"""The metric `camera-accuracy`: whether the clip shows the commanded one of the nine single camera moves.

It estimates no path: each move's path is tried by plane sweep (`worldr1_rewards.rewards.plane_sweep`). So it is
independent of reconstructors and of the reward `trajectory`, and can tell whether training on them was honest.
"""

from __future__ import annotations

import torch

from worldr1_core.camera.vocabulary import SINGLE_MOVES, detect_moves
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_rewards.rewards.plane_sweep import WINDOW, match_paths, rerender_correlation
from worldr1_rewards.rewards.single_moves import tried_paths

MIN_CONTRAST = 0.02
"""Standard deviation of the frames below which no motion can be seen."""
MIN_CORRELATION = 0.1
"""Correlation with the re-render along the best move below which the clip shows none of the moves: that of frames that
have nothing to do with one another is 0."""


class CameraAccuracyReward(Reward):
    """1 if the commanded move explains the clip better than the eight other single moves do, else 0: in [0, 1].

    A clip that none of the moves explains, such as noise or unrelated frames, has 0. Applies to prompts that command
    exactly one of the nine single moves. Its mean over clips is the share of obeyed commands; nine guesses at random
    would get 0.11.
    """

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
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
        tried = tried_paths(len(frames), clip.intrinsics, clip.video.size)
        paths = [path for move in SINGLE_MOVES for path in tried[move]]
        batch = frames[None].to(self.device)
        found = match_paths(batch, paths)[0].nan_to_num(nan=-torch.inf).cpu()
        psnr = torch.stack([part.max() for part in found.split([len(tried[move]) for move in SINGLE_MOVES])])
        best = SINGLE_MOVES[int(psnr.argmax())]
        index = SINGLE_MOVES.index(moves[0])
        rivals = torch.cat([psnr[:index], psnr[index + 1 :]])
        # Noise would be explained best by whatever move blurs it most.
        correlation = float(rerender_correlation(batch, paths[int(found.argmax())])[0])
        obeyed = best == moves[0] and correlation >= MIN_CORRELATION
        details = {"best": str(best), "margin": float(psnr[index] - rivals.max()), "correlation": correlation}
        return Score(float(obeyed), details=details)


def check_sweepable(clip: Clip) -> None:
    """Check that a plane sweep can tell paths apart in a clip.

    Raises:
        ScoreUnavailable: The clip is too short, too small, or shows nothing.
    """
    frames = clip.video.frames
    if len(frames) < 3 or min(clip.video.size) < WINDOW:
        raise ScoreUnavailable(f"needs 3 frames of {WINDOW} pixels on each side, received {tuple(frames.shape)}")
    if float(frames.std()) < MIN_CONTRAST:
        raise ScoreUnavailable("no texture: no motion can be seen")
