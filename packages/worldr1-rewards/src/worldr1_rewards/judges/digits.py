"""Grade from the distribution over ten digit tokens, shared by both judges.

A vision-language model asked for one digit puts probability on all ten. Their expectation is a finer and steadier
grade than the digit it would have written (World-R1, arXiv 2604.24764, section 3: the meta-view score is read from the
digit tokens' logits at the answer position). How much probability falls on digits at all, the *mass*, tells whether
the model answered the question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import JudgeResult

DIGITS: tuple[str, ...] = tuple("0123456789")
_HIGHEST = len(DIGITS) - 1
_SPACE_MARKS = " \t\r\n▁ĠĊ"
"""Blanks as written, and as SentencePiece and byte-level BPE spell them inside a token."""

_BLANK = r"\s\ufeff\u200b"
_OPENING = _BLANK + r"*_`\"'“”‘’„«»(\[{"
_CLOSING = _BLANK + r"*_`\"'“”‘’„«»)\]}.,:;!。"
_BARE_DIGIT = re.compile(rf"[{_OPENING}]*([0-9])[{_CLOSING}]*")
"""No sign, point or comma may stand before the digit: `-4` and `.5` are other numbers."""
_END_OF_THOUGHTS = re.compile(r"</(?:think|thinking|thought|thoughts|reasoning)>", re.IGNORECASE)


def digit_token_ids(encode: Callable[[str], Sequence[int]], context: str) -> list[int]:
    """Ids of the ten digits where an answer starts.

    A tokenizer may spell a digit differently at the start of a text, after a blank, or after a control token. So each
    id is what a digit adds to the encoding of the text that stands before the answer.

    Args:
        encode: Text to token ids, without added special tokens.
        context: Text up to the answer, e.g. a rendered chat that ends in the assistant's header.

    Returns:
        Ten distinct ids, for 0 to 9.

    Raises:
        UserError: A digit is not exactly one token of its own there.
    """
    base = list(encode(context))
    ids = []
    for digit in DIGITS:
        full = list(encode(context + digit))
        if full[: len(base)] != base or len(full) != len(base) + 1:
            raise UserError(
                f"The tokenizer does not write the digit {digit!r} as one token after {context[-24:]!r}: it adds "
                f"{full[len(base) :]!r}. Use a judge model whose tokenizer keeps digits apart."
            )
        ids.append(full[-1])
    if len(set(ids)) != len(ids):
        raise UserError(f"The tokenizer maps several digits to one token: {ids!r}. Use another judge model.")
    return ids


def expected_grades(logits: Tensor, digit_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Grade and mass from next-token logits.

    With p the softmax over the ten digits alone, the grade is the sum of d · p(d), divided by 9. Computed in float32
    whatever the logits' type: bfloat16 has too few digits for a sum of exponentials.

    Args:
        logits: `(B, V)` next-token logits.
        digit_ids: Ids of 0 to 9.

    Returns:
        `(B,)` grades in [0, 1] and `(B,)` masses in [0, 1], float32.

    Example:
        >>> logits = torch.full((1, 12), -1e4)
        >>> logits[0, 7] = 0.0
        >>> [round(float(x), 4) for x in expected_grades(logits, range(10))]
        [0.7778, 1.0]
    """
    logits = logits.float()
    digits = logits[:, list(digit_ids)]
    values = torch.arange(len(DIGITS), dtype=torch.float32, device=logits.device) / _HIGHEST
    grades = (digits.softmax(-1) * values).sum(-1)
    mass = (digits.logsumexp(-1) - logits.logsumexp(-1)).exp()
    return grades.clamp(0, 1), mass.clamp(0, 1)


def pooled_grade(alternatives: Iterable[tuple[str, float]]) -> tuple[float, float]:
    """Grade and mass from the likeliest tokens and their log-probabilities, as endpoints report them.

    `"7"`, `" 7"` and `"▁7"` are one answer and are pooled. A digit that the endpoint cut off counts as 0.

    Args:
        alternatives: `(token, log-probability)`, natural logarithm.

    Returns:
        Grade and mass in [0, 1]; the grade is NaN where the mass is 0.

    Example:
        >>> grade, mass = pooled_grade([("9", math.log(0.5)), (" 9", math.log(0.1)), ("0", math.log(0.2))])
        >>> round(grade, 6), round(mass, 6)
        (0.75, 0.8)
    """
    mass = total = 0.0
    for token, log_probability in alternatives:
        digit = token.strip(_SPACE_MARKS)
        if digit in DIGITS:
            probability = math.exp(log_probability)
            mass += probability
            total += int(digit) * probability
    return (total / mass / _HIGHEST if mass > 0 else math.nan), min(mass, 1.0)


def parse_digit(text: str) -> float | None:
    """Grade written out in an answer, where an endpoint gives no probabilities.

    The answer must be one digit and nothing else. Blanks, quotation marks, brackets, Markdown emphasis and a full stop
    around it do not matter, and a finished block of thoughts (`<think>...</think>`) before it is left out. A digit
    among words ("The 3D scene ..."), a longer number (`10`, `7.5`, `1e1`), a fraction (`7/10`) or thoughts that were
    cut off are no answer to "one digit from 0 to 9", and guessing would invent a score.

    Returns:
        The digit divided by 9, or `None`.

    Example:
        >>> parse_digit(" **9**."), parse_digit("<think>2 boxes</think> 0"), parse_digit("10"), parse_digit("4K")
        (1.0, 0.0, None, None)
    """
    match = _BARE_DIGIT.fullmatch(_without_thoughts(text))
    return None if match is None else int(match[1]) / _HIGHEST


def _without_thoughts(text: str) -> str:
    """The text after the last end of a block of thoughts; chat templates may have opened it within the question."""
    return _END_OF_THOUGHTS.split(text)[-1]


def checked(grade: float, mass: float, min_mass: float) -> JudgeResult | ScoreUnavailable:
    """A result, or the reason why the model's answer is none.

    Args:
        grade: Expected digit / 9.
        mass: Probability of any digit.
        min_mass: Least acceptable mass.
    """
    if not (math.isfinite(mass) and mass >= min_mass) or not math.isfinite(grade):
        return ScoreUnavailable(
            f"The judge did not answer with a digit: digits have probability {mass:.3g}, at least {min_mass:g} is "
            "needed. Use an instruction-tuned model that answers directly, or lower min_mass."
        )
    return JudgeResult(score=grade, mass=mass)
