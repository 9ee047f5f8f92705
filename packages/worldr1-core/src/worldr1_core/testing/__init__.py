"""Conformance kits for plugin authors: one call runs every contract of an interface.

A kit needs no test runner. With pytest, every contract becomes a test of its own:

Example:
    ```python
    import pytest
    from worldr1_core.testing import plugin_checks, reward_checks
    from worldr1_sharpness import SharpnessReward

    @pytest.mark.parametrize("check", [*plugin_checks("worldr1_sharpness"), *reward_checks(SharpnessReward)], ids=str)
    def test_contract(check):
        check()
    ```
"""

from worldr1_core.testing.backbones import backbone_checks, check_backbone
from worldr1_core.testing.clips import (
    TexturedRoom,
    TrueReconstruction,
    camera_path,
    flat_clip,
    make_clip,
    true_reconstruction,
)
from worldr1_core.testing.failures import CheckFailed, CheckSkipped
from worldr1_core.testing.judges import check_judge, judge_checks
from worldr1_core.testing.noise_conditioners import check_noise_conditioner, noise_checks
from worldr1_core.testing.objectives import check_objective, objective_checks
from worldr1_core.testing.plugins import check_plugin, plugin_checks
from worldr1_core.testing.reconstructors import check_reconstructor, reconstructor_checks
from worldr1_core.testing.report import Check, ConformanceError, Report
from worldr1_core.testing.rewards import check_reward, reward_checks
from worldr1_core.testing.samplers import check_sampler, sampler_checks
from worldr1_core.testing.stand_ins import FailingJudge, StubJudge

__all__ = [
    "Check",
    "CheckFailed",
    "CheckSkipped",
    "ConformanceError",
    "FailingJudge",
    "Report",
    "StubJudge",
    "TexturedRoom",
    "TrueReconstruction",
    "backbone_checks",
    "camera_path",
    "check_backbone",
    "check_judge",
    "check_noise_conditioner",
    "check_objective",
    "check_plugin",
    "check_reconstructor",
    "check_reward",
    "check_sampler",
    "flat_clip",
    "judge_checks",
    "make_clip",
    "noise_checks",
    "objective_checks",
    "plugin_checks",
    "reconstructor_checks",
    "reward_checks",
    "sampler_checks",
    "true_reconstruction",
]
