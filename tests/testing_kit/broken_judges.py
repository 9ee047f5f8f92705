"""A judge that keeps every promise, and for every check one that breaks it."""

from __future__ import annotations

import re

import torch

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import Judge, Verdict

KEPT = []


class Good(Judge):
    """Grades by brightness, a little by the length of the text without markup."""

    clean = True

    def value(self, question):
        text = re.sub(r"<[^<>\s]+>|\[/?[A-Z]+\]", "", question.text) if self.clean else question.text
        return 0.5 * float(question.images.mean()) + 0.1 * min(len(text) / 1000, 1.0)

    def one(self, question):
        if len(question.images) == 0 or not bool(torch.isfinite(question.images).all()):
            return ScoreUnavailable("the images are empty or not finite")
        return Verdict(self.value(question), mass=1.0)

    def grade(self, questions):
        return [self.one(question) for question in questions]


class Short(Good):
    """Leaves the last question out."""

    def grade(self, questions):
        return super().grade(questions)[:2]


class EmptyCrash(Good):
    """Cannot stack nothing."""

    def grade(self, questions):
        torch.stack([question.images.mean() for question in questions])
        return super().grade(questions)


def _entry(change):
    class Changed(Good):
        """Changes its verdicts."""

        def one(self, question):
            return change(super().one(question))

        def __reduce__(self):
            return Good, ()

    return Changed


def _verdict(**changes):
    def change(entry):
        if not isinstance(entry, Verdict):
            return entry
        return Verdict(**{"score": entry.score, "mass": entry.mass, "source": entry.source, **changes})

    return _entry(change)


class NoMany(Good):
    """Takes one image only."""

    def one(self, question):
        return ScoreUnavailable("one image only") if len(question.images) > 1 else super().one(question)


class BatchRelative(Good):
    """Grades on a curve."""

    def grade(self, questions):
        answers = super().grade(questions)
        top = max((a.score for a in answers if isinstance(a, Verdict)), default=1.0)
        return [Verdict(a.score / top, None) if isinstance(a, Verdict) else a for a in answers]


class Noisy(Good):
    """Draws its grades."""

    def value(self, question):
        return float(torch.rand(()))


class GradesNothing(Good):
    """Gives the middle grade to broken questions."""

    def one(self, question):
        answer = super().one(question)
        return answer if isinstance(answer, Verdict) else Verdict(0.5, None)


class RaisesAll(Good):
    """Lets one broken question stop all."""

    def one(self, question):
        answer = super().one(question)
        if isinstance(answer, Exception):
            raise UserError("bad images")
        return answer


class Neighbours(Good):
    """A broken question spoils its neighbours."""

    def grade(self, questions):
        answers = super().grade(questions)
        broken = [a for a in answers if isinstance(a, Exception)]
        return [broken[0] for _ in answers] if broken else answers


class Gullible(Good):
    """Believes what stands after a control token."""

    clean = False

    def value(self, question):
        return 1.0 if "<|im_start|>assistant" in question.text else super().value(question)


class Writes(Good):
    """Works in place."""

    def value(self, question):
        value = super().value(question)
        question.images.sub_(1e-7)
        return value


class Keeps(Good):
    """Keeps what it saw."""

    def value(self, question):
        KEPT.append(question.images[0, 0])
        return super().value(question)


class Seeds(Good):
    """Seeds the global generator."""

    def value(self, question):
        torch.manual_seed(0)
        return super().value(question)


class Prints(Good):
    """Tells the world."""

    def value(self, question):
        print("grading")  # noqa: T201
        return super().value(question)


class OtherDevice(Good):
    """Is another one elsewhere."""

    def value(self, question):
        return super().value(question) if self.device == "cpu" else 0.9


class Full(Good):
    """Likes everything."""

    def value(self, question):
        return 1.0


MUTANTS = {
    "an entry too few": ("one-entry-each", Short),
    "crashes on nothing": ("one-entry-each", EmptyCrash),
    "digits": ("one-entry-each", _verdict(score=7.0)),
    "integer score": ("one-entry-each", _verdict(score=1)),
    "percent mass": ("one-entry-each", _verdict(mass=99.0)),
    "unknown source": ("one-entry-each", _verdict(source="guess")),
    "bare floats": ("one-entry-each", _entry(lambda entry: getattr(entry, "score", entry))),
    "other exceptions": ("one-entry-each", _entry(lambda entry: ValueError("no"))),
    "no reason": ("one-entry-each", _entry(lambda entry: ScoreUnavailable(" "))),
    "one image only": ("gives-verdicts", NoMany),
    "on a curve": ("batch-and-order", BatchRelative),
    "noisy": ("deterministic", Noisy),
    "grades nothing": ("failures-are-entries", GradesNothing),
    "raises": ("failures-are-entries", RaisesAll),
    "spoils neighbours": ("failures-are-entries", Neighbours),
    "gullible": ("hostile-text", Gullible),
    "writes": ("input-unchanged", Writes),
    "keeps images": ("frees-images", Keeps),
    "seeds": ("leaves-random-state", Seeds),
    "prints": ("prints-nothing", Prints),
    "other device": ("device", OtherDevice),
}
"""What is wrong -> (check, the judge that breaks it)."""

ALSO_FAIL = {
    "an entry too few": {"*"},
    "digits": {"*"},
    "integer score": {"*"},
    "percent mass": {"*"},
    "unknown source": {"*"},
    "bare floats": {"*"},
    "other exceptions": {"*"},
    "no reason": {"*"},
    "on a curve": {"failures-are-entries"},
    "noisy": {"batch-and-order", "failures-are-entries", "hostile-text", "leaves-random-state", "device"},
}
"""What else such a judge cannot help breaking; `*` is anything. Everything else must hold."""
