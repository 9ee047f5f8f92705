"""Dimensions of VBench (arXiv 2311.17982) that the metric `vbench-package` measures, in the order of tables."""

from __future__ import annotations

from typing import Literal, get_args

Dimension = Literal[
    "aesthetic_quality",
    "imaging_quality",
    "motion_smoothness",
    "subject_consistency",
    "background_consistency",
    "dynamic_degree",
    "temporal_flickering",
    "overall_consistency",
]
"""Dimensions that any video can be measured in; the paper's five come first."""
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
PAPER_DIMENSIONS = DIMENSIONS[:5]
STILLNESS_DIMENSIONS: frozenset[Dimension] = frozenset(
    ["motion_smoothness", "subject_consistency", "background_consistency", "temporal_flickering"]
)
"""Dimensions that compare frames with one another, so that equal frames are the best."""


def vbench_column(dimension: str) -> str:
    """Name of the column of a dimension as the package vbench measures it."""
    return f"vbench_{dimension}"
