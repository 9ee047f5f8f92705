"""Early checks of an evaluation's held-out metrics: reference clips, and the names in alarm bounds."""

from __future__ import annotations

from collections.abc import Sequence

from worldr1_core.errors import ManifestError, suggest
from worldr1_train.held_out_section import DIVERSITY, FLOW_MATCHING_LOSS
from worldr1_train.reference_clips import find_reference_files
from worldr1_train.section import EvaluationSection


def check_held_out(section: EvaluationSection, metrics: Sequence[str]) -> None:
    """Check reference clips and alarms.

    Args:
        section: Settings of the evaluation, with paths relative to the current folder.
        metrics: Rewards that the evaluation measures.

    Raises:
        UserError: A reference clip is missing or has no prompt.
        ManifestError: The alarm bounds name a metric that is not measured.
    """
    if section.reference_clips is not None:
        find_reference_files(section.reference_clips)
    if section.alarms is None:
        return
    measured = [*metrics]
    if section.diversity is not None:
        measured.append(DIVERSITY)
    if section.reference_clips is not None:
        measured.append(FLOW_MATCHING_LOSS.replace("_", "-"))
    if unknown := section.alarms.unknown(measured):
        raise ManifestError(
            f"train.evaluation.alarms.bounds names {unknown[0]!r}, which the evaluation does not measure. Measured: "
            f"{sorted(measured)}.{suggest(unknown[0], measured)} Add it to train.evaluation.metrics, or remove it."
        )
