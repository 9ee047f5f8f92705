"""Alarms of a run: every evaluation is compared with the model before training, and what is suspicious is logged."""

from __future__ import annotations

from collections.abc import Collection

from worldr1_core.log import get_logger
from worldr1_train.alarms import Alarm, AlarmRule, find_alarms
from worldr1_train.evaluation import Evaluation, compare

log = get_logger(__name__)


class AlarmWatch:
    """Compares evaluations with one before training.

    Args:
        before: Evaluation of the model before training, from the noise that it is trained with.
        trained: Metrics that rewards of the training are.
        rule: What raises an alarm.
    """

    def __init__(self, before: Evaluation, trained: Collection[str], rule: AlarmRule) -> None:
        self._before, self._rule = before, rule
        self._trained = [name for name in trained if name in before.values]
        if not self._trained:
            log.warning(
                "no trained reward is among the metrics of the evaluation: alarms are off",
                trained=sorted(trained),
                metrics=sorted(before.values),
                advice="name a reward of the training in train.evaluation.metrics",
            )

    def check(self, evaluation: Evaluation, step: int | None = None) -> list[Alarm]:
        """Find the alarms of an evaluation and log each as a warning.

        Args:
            evaluation: Of the policy under training.
            step: Optimiser steps done, where they are known.
        """
        alarms = find_alarms(compare(self._before, evaluation), self._trained, self._rule)
        for alarm in alarms:
            at = {} if step is None else {"step": step}
            log.warning("trained rewards rise while a held-out metric worsens", **at, **alarm.as_data())
        return alarms
