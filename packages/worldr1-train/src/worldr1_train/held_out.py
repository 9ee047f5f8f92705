"""Held-out metrics, which are not rewards, for the evaluation of a manifest."""

from __future__ import annotations

import dataclasses

from worldr1_train.diversity import Diversity
from worldr1_train.evaluation import Evaluator, HeldOutFigure
from worldr1_train.flow_matching_loss import FlowMatchingLoss
from worldr1_train.reference_clips import reference_clips
from worldr1_train.section import EvaluationSection


def with_held_out(evaluator: Evaluator, section: EvaluationSection) -> Evaluator:
    """Return an evaluator that also measures diversity and the loss on reference clips, if the settings enable them.

    Args:
        evaluator: Evaluator of videos; returned unchanged if it already has held-out metrics.
        section: Settings of the evaluation.

    Raises:
        UserError: Reference clips are missing, or a clip has no prompt.
    """
    if evaluator.held_out:
        return evaluator
    figures: list[HeldOutFigure] = []
    if section.diversity is not None:
        figures.append(Diversity(section.diversity.num_prompts, section.diversity.num_seeds, section.batch_size))
    if section.reference_clips is not None:
        clips = reference_clips(section.reference_clips, evaluator.videos.pipeline.backbone, evaluator.videos.seed)
        figures.append(FlowMatchingLoss(clips, section.reference_clips.noise_levels, section.batch_size))
    return dataclasses.replace(evaluator, held_out=tuple(figures))
