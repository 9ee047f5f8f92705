"""Rewards with their gradients: the frames of a batch of videos through `Reward.score_frames`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents
from worldr1_core.errors import PluginError, UserError
from worldr1_core.placement import PlacedReward
from worldr1_core.reward import Requirement, Reward, RewardInputs
from worldr1_core.scoring import ScoringEngine
from worldr1_core.video import Video

SCORES_ALONE = (
    "Leave them out (weight 0 reports the score only), or choose an objective that needs scores alone, such as "
    "flow-grpo or nft."
)
"""What to do about rewards without gradients."""


def check_gradients(rewards: Mapping[str, Reward], purpose: str, remedy: str = SCORES_ALONE) -> None:
    """Check that rewards have gradients.

    Args:
        rewards: Name -> reward.
        purpose: What needs them, for the message.
        remedy: What to do about those that have none, for the message.

    Raises:
        UserError: Some have none; the message names them.
    """
    refuse_without_gradient(
        purpose,
        away=[name for name, reward in rewards.items() if isinstance(reward, PlacedReward)],
        lacking=[name for name, reward in rewards.items() if not reward.has_gradient],
        remedy=remedy,
    )


def refuse_without_gradient(
    purpose: str, *, away: Iterable[str], lacking: Iterable[str], remedy: str = SCORES_ALONE
) -> None:
    """Raise an error if there are rewards without gradients.

    Args:
        purpose: What needs the gradients, for the message.
        away: Names of the rewards that run in another process.
        lacking: Names of the rewards that do not implement `score_frames`.
        remedy: What to do about the latter, for the message.

    Raises:
        UserError: There are such rewards; the message names them.
    """
    away, lacking = sorted(away), sorted(lacking)
    if away:
        raise UserError(
            f"{purpose} needs the gradients of rewards, and {away} run in another process. Remove their `placement`, "
            "and that of the reconstructor if they read it, or choose an objective that needs scores alone, such as "
            "flow-grpo or nft."
        )
    if lacking:
        raise UserError(
            f"{purpose} needs the gradients of rewards, and {lacking} have none: they do not implement score_frames. "
            f"{remedy}"
        )


class FrameScorer:
    """Computes rewards with their gradients in the frames.

    Args:
        components: The rewards and what they read.
        purpose: What needs the gradients, for messages.
        remedy: What to do about rewards that have none, for messages.

    Raises:
        UserError: A reward has no gradient.
    """

    def __init__(
        self, components: ScoringComponents, *, purpose: str = "This objective", remedy: str = SCORES_ALONE
    ) -> None:
        self._components = components
        self._rewards = {weighted.name: weighted.reward for weighted in components.rewards if weighted.weight > 0}
        check_gradients(self._rewards, purpose, remedy)
        self._engine = ScoringEngine(replace(components, rewards=[]))

    def __call__(
        self, frames: Tensor, clips: Sequence[Clip], *, known: dict[int, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Score videos.

        Args:
            frames: `(B, T, 3, H, W)` RGB in [0, 1].
            clips: B clips with prompts, commanded paths and references; their own videos are not looked at.
            known: `id` of a reward -> its values for the same frames and clips, computed by another scorer that holds
                the same object. These are not computed again; the values of the other rewards are added.

        Returns:
            Reward name -> `(B,)`, NaN where a reward does not apply, or what it requires cannot be had.

        Raises:
            PluginError: A reward returns something else.
        """
        known = {} if known is None else known
        missing = [name for name, reward in self._rewards.items() if id(reward) not in known]
        if missing:
            shown = [_with_frames(clip, part) for clip, part in zip(clips, frames.detach(), strict=True)]
            scenes = [found.reconstruction for found in self._engine.score(shown, batch_size=len(shown))]
            known |= {id(self._rewards[name]): self._score(name, frames, shown, scenes) for name in missing}
        return {name: known[id(reward)] for name, reward in self._rewards.items()}

    def _score(self, name: str, frames: Tensor, clips: Sequence[Clip], scenes: Sequence[object]) -> Tensor:
        reward = self._rewards[name]
        needs_scene = Requirement.RECONSTRUCTION in reward.requires
        judge = self._components.judge if Requirement.JUDGE in reward.requires else None
        needs_reference = Requirement.REFERENCE in reward.requires
        rows = [row for row, scene in enumerate(scenes) if scene is not None or not needs_scene]
        values = frames.new_full((len(frames),), torch.nan)
        if not rows:
            return values
        inputs = [
            RewardInputs(scenes[row] if needs_scene else None, judge, clips[row].reference if needs_reference else None)  # type: ignore[arg-type]
            for row in rows
        ]
        found = reward.score_frames(frames[rows], [clips[row] for row in rows], inputs)
        if not isinstance(found, Tensor) or tuple(found.shape) != (len(rows),):
            raise PluginError(
                f"Reward {name!r}: score_frames must return a tensor of shape ({len(rows)},), received "
                f"{tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}."
            )
        if (
            torch.is_grad_enabled()
            and frames.requires_grad
            and not found.requires_grad
            and bool(found.isfinite().any())
        ):
            raise PluginError(
                f"Reward {name!r}: the values of score_frames have no gradient in the frames. Compute them from the "
                "frames with torch, and neither detach them nor compute them under torch.no_grad()."
            )
        return values.index_copy(0, torch.tensor(rows, device=frames.device), found.to(values))


def _with_frames(clip: Clip, frames: Tensor) -> Clip:
    return replace(clip, video=Video(frames.float().clamp(0, 1).cpu(), fps=clip.video.fps))
