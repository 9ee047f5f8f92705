"""Each check of the judge kit passes on a good judge and fails on the one that breaks it."""

from __future__ import annotations

import pytest

from testing_kit.broken_judges import ALSO_FAIL, MUTANTS, Full, Good
from worldr1_core.testing import ConformanceError, FailingJudge, StubJudge, check_judge, judge_checks
from worldr1_core.testing.subject import COMPONENT_CONTRACTS


def _run(judge, **arguments):
    try:
        return check_judge(judge, device="cpu:0", **arguments)
    except ConformanceError as error:
        return error.report


def test_a_good_judge_passes_every_check():
    report = check_judge(Good, device="cpu:0")
    assert report.skipped == {}
    assert len(report.passed) == len(judge_checks(Good))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_the_broken_judge_fails_its_check_alone(wrong):
    name, broken = MUTANTS[wrong]
    failed = _run(broken).failed
    assert name in failed
    allowed = ALSO_FAIL.get(wrong, set())
    assert "*" in allowed or failed.keys() - {name} <= allowed, failed


def test_every_check_has_a_broken_judge():
    shared = {contract.name for contract in COMPONENT_CONTRACTS}
    assert {name for name, _ in MUTANTS.values()} == {check.name for check in judge_checks(Good)} - shared


def test_hostile_text_cannot_be_tried_where_every_grade_is_full():
    assert "nothing to compare" in _run(Full).skipped["hostile-text"]


def test_the_failing_stand_in_gives_no_results():
    assert "the judge did not answer" in _run(FailingJudge).failed["gives-results"]


def test_the_stub_stand_in_remembers_what_it_was_asked():
    from worldr1_core.judge import JudgeRequest
    from worldr1_core.testing import make_clip

    judge = StubJudge(0.25)
    (result,) = judge.grade([JudgeRequest(make_clip(num_frames=1).video.frames, "Is it red?")])
    assert (result.score, judge.asked) == (0.25, ["Is it red?"])
