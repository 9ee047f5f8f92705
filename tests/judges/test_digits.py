from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import JudgeResult
from worldr1_rewards.judges.digits import checked, digit_token_ids, expected_grades, parse_digit, pooled_grade


def test_expectation_equals_a_float64_softmax_over_the_digits():
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * 4
    ids = [11, 3, 25, 7, 30, 2, 18, 39, 0, 5]
    grades, masses = expected_grades(logits, ids)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    digits = p[:, ids]
    np.testing.assert_allclose(masses.numpy(), digits.sum(1), rtol=1e-5)
    np.testing.assert_allclose(grades.numpy(), digits @ np.arange(10) / 9 / digits.sum(1), rtol=1e-5)


def test_bfloat16_logits_are_summed_in_float32():
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(1)).bfloat16()
    grades, masses = expected_grades(logits, range(10))
    exact, exact_mass = expected_grades(logits.double(), range(10))
    assert grades.dtype == torch.float32
    torch.testing.assert_close(grades, exact.float())
    torch.testing.assert_close(masses, exact_mass.float())


@pytest.mark.parametrize("digit", range(10))
def test_a_certain_digit_grades_digit_over_nine(digit):
    logits = torch.full((1, 30), -1e4)
    logits[0, digit] = 0
    grade, mass = expected_grades(logits, range(10))
    assert grade.item() == pytest.approx(digit / 9)
    assert mass.item() == pytest.approx(1.0)


def test_digit_ids_are_what_a_digit_adds_to_its_context():
    def encode(text):
        return [500 + ord(c) if text[max(i - 1, 0)] == "\n" else ord(c) for i, c in enumerate(text)]

    assert digit_token_ids(encode, "assistant\n") == [500 + ord(d) for d in "0123456789"]
    assert digit_token_ids(encode, "assistant:") == [ord(d) for d in "0123456789"]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: [c for ch in text for c in ((1, ord(ch)) if ch.isdigit() else (ord(ch),))],
        lambda text: [hash(text)],
    ],
    ids=["two tokens a digit", "digit merges with the context"],
)
def test_digits_that_are_not_one_token_are_refused(encode):
    with pytest.raises(UserError, match="does not write the digit '0' as one token"):
        digit_token_ids(encode, "answer: ")


def test_digits_that_share_a_token_are_refused():
    with pytest.raises(UserError, match="several digits to one token"):
        digit_token_ids(lambda text: [7 if ch.isdigit() else ord(ch) for ch in text], "x")


def test_pooling_adds_the_spellings_of_one_digit():
    alternatives = [
        ("7", math.log(0.3)),
        (" 7", math.log(0.2)),
        ("▁7", math.log(0.1)),
        ("Ġ1", math.log(0.2)),
        ("The", math.log(0.2)),
    ]
    grade, mass = pooled_grade(alternatives)
    assert mass == pytest.approx(0.8)
    assert grade == pytest.approx((0.6 * 7 + 0.2 * 1) / 0.8 / 9)


def test_pooling_ignores_numbers_and_words():
    grade, mass = pooled_grade([("10", -0.1), ("77", -3.0), ("seven", -3.0)])
    assert mass == 0
    assert math.isnan(grade)


@pytest.mark.parametrize(
    ("text", "digit"),
    [
        ("7", 7),
        (" 0\n", 0),
        ("7.", 7),
        ("**4**", 4),
        ("`5`", 5),
        ("“3”", 3),
        ("(8)", 8),
        ("\ufeff6\r\n", 6),
        ("<think>\n2 boxes, perhaps 3.\n</think>\n\n7", 7),
        ("the template opened the thoughts: 4 walls </think> **1**", 1),
        ("<THINK>5</THINK>6", 6),
    ],
)
def test_a_digit_alone_is_read(text, digit):
    assert parse_digit(text) == pytest.approx(digit / 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "The 3D scene shows what was asked for.",
        "<think>The room has 2 boxes",
        "<think>7",
        "<think>7</think>",
        "<think>7</think> <think>8",
        "Step 1",
        "4K",
        "1e1",
        "7/10",
        "7 out of 10",
        "10",
        "7.5",
        ".7",
        "-4",
        "- 4",
        "+4",
        "~7",
        "7%",
        "3 or 4",
        "5, yes 5",
        "Grade: 9.",
        "7\n7",
        "2024",
        "７",
        "٧",
        "⁷",
    ],
)
def test_text_that_is_more_than_one_digit_gives_no_grade(text):
    assert parse_digit(text) is None


def test_checked_refuses_low_and_undefined_mass():
    assert checked(0.5, 0.6, 0.5) == JudgeResult(0.5, 0.6)
    for grade, mass in [(0.5, 0.49), (math.nan, 0.9), (0.5, math.nan)]:
        refused = checked(grade, mass, 0.5)
        assert isinstance(refused, ScoreUnavailable)
        assert "did not answer with a digit" in str(refused)
