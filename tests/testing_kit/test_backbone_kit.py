"""Each check of the backbone kit passes on a backbone that keeps its word and fails on the one that breaks it."""

from __future__ import annotations

import pytest

from testing_kit.broken_backbones import MUTANTS, Good
from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.errors import UserError, WeightsError
from worldr1_core.testing import CheckFailed, CheckSkipped, ConformanceError, backbone_checks, check_backbone
from worldr1_core.testing.subject import COMPONENT_CONTRACTS


def test_a_good_backbone_passes_every_check():
    report = check_backbone(Good, device="cpu:0")
    assert report.skipped == {}
    assert len(report.passed) == len(backbone_checks(Good))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_the_broken_backbone_fails_its_check(wrong):
    name, broken = MUTANTS[wrong]
    (check,) = [check for check in backbone_checks(broken) if check.name == name]
    with pytest.raises(CheckFailed, match="Why: "):
        check()


def test_every_check_has_a_broken_backbone():
    """But for the device, which takes a second one."""
    shared = {contract.name for contract in COMPONENT_CONTRACTS} | {"device"}
    assert {name for name, _ in MUTANTS.values()} == {check.name for check in backbone_checks(Good)} - shared


def test_an_instance_skips_what_would_change_it():
    report = check_backbone(Good())
    assert {"gradients", "adapter-round-trip", "one-adapter"} <= report.skipped.keys()
    assert "an instance was given" in report.skipped["gradients"]
    assert "replay-is-exact" in report.passed


def test_the_message_says_what_was_seen():
    with pytest.raises(ConformanceError, match=r"FAILED prints-nothing: the call printed 'decoding"):
        check_backbone(MUTANTS["prints"][1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"prompts": ["one", "one"]}, "two different prompts"), ({"num_inference_steps": 2}, "at least 3 steps")],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(UserError, match=words):
        backbone_checks(Good, **arguments)


def test_a_backbone_without_an_encoder_of_videos_skips_its_check():
    class Blind(Good):
        encode_video = Backbone.encode_video

    (check,) = [check for check in backbone_checks(Blind) if check.name == "encode-video"]
    with pytest.raises(CheckSkipped, match="has no encoder of videos"):
        check()


def test_round_trip_of_a_video_is_checked_where_asked():
    (check,) = [check for check in backbone_checks(Good, round_trip=1e-3) if check.name == "encode-video"]
    with pytest.raises(CheckFailed, match="decoded encoded videos are"):
        check()


def test_absent_weights_skip_with_the_reason(tmp_path):
    (check,) = [c for c in backbone_checks(Good, options={"path": str(tmp_path)}) if c.name == "geometry"]
    with pytest.raises(Exception, match="what the component needs is not here") as caught:
        check()
    assert isinstance(caught.value.__cause__, WeightsError)


def test_the_adapter_may_be_chosen():
    checks = backbone_checks(Good, adapter=AdapterSpec(rank=1, alpha=1.0, target_modules=("proj_out",)))
    next(check for check in checks if check.name == "gradients")()
