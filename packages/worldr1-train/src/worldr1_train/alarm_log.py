"""Alarms of a run: evaluations are compared with the model before training, and signs of reward hacking are logged."""

from __future__ import annotations

from collections.abc import Collection

from worldr1_core.log import get_logger
from worldr1_train.alarms import Alarm, AlarmRule, find_alarms
from worldr1_train.evaluation import Evaluation, compare

log = get_logger(__name__)


class AlarmWatch:
    """Compares evaluations with an evaluation before training.

    Args:
        before: Evaluation of the model before training, with the noise conditioner used in training.
        trained: Metrics that are trained on.
        rule: Conditions for alarms.
    """

    def __init__(self, before: Evaluation, trained: Collection[str], rule: AlarmRule) -> None:
        self._before, self._rule = before, rule
        self._trained = [name for name in trained if name in before.values]
        if not self._trained:
            log.warning(
                "alarms disabled: the evaluation measures no trained reward",
                trained=sorted(trained),
                metrics=sorted(before.values),
                advice="add a trained reward to train.evaluation.metrics",
            )

    def check(self, evaluation: Evaluation, step: int | None = None) -> list[Alarm]:
        """Find the alarms of an evaluation and log each as a warning.

        Args:
            evaluation: Evaluation of the policy during or after training.
            step: Number of completed optimiser steps, if known.
        """
        alarms = find_alarms(compare(self._before, evaluation), self._trained, self._rule)
        for alarm in alarms:
            at = {} if step is None else {"step": step}
            log.warning("trained rewards rise while a held-out metric worsens", **at, **alarm.as_data())
        return alarms
