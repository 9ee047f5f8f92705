"""A judge that keeps every promise, and for every check one that breaks it."""

from __future__ import annotations

import re

import torch

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import Judge, JudgeResult

KEPT = []


class Good(Judge):
    """Grades by brightness, a little by the length of the text without markup."""

    clean = True

    def value(self, request):
        text = re.sub(r"<[^<>\s]+>|\[/?[A-Z]+\]", "", request.text) if self.clean else request.text
        return 0.5 * float(request.images.mean()) + 0.1 * min(len(text) / 1000, 1.0)

    def one(self, request):
        if len(request.images) == 0 or not bool(torch.isfinite(request.images).all()):
            return ScoreUnavailable("the images are empty or not finite")
        return JudgeResult(self.value(request), mass=1.0)

    def grade(self, requests):
        return [self.one(request) for request in requests]


class Short(Good):
    """Leaves the last question out."""

    def grade(self, requests):
        return super().grade(requests)[:2]


class EmptyCrash(Good):
    """Cannot stack nothing."""

    def grade(self, requests):
        torch.stack([request.images.mean() for request in requests])
        return super().grade(requests)


def _entry(change):
    class Changed(Good):
        """Changes its results."""

        def one(self, request):
            return change(super().one(request))

        def __reduce__(self):
            return Good, ()

    return Changed


def _result(**changes):
    def change(entry):
        if not isinstance(entry, JudgeResult):
            return entry
        return JudgeResult(**{"score": entry.score, "mass": entry.mass, "source": entry.source, **changes})

    return _entry(change)


class NoMany(Good):
    """Takes one image only."""

    def one(self, request):
        return ScoreUnavailable("one image only") if len(request.images) > 1 else super().one(request)


class BatchRelative(Good):
    """Grades on a curve."""

    def grade(self, requests):
        answers = super().grade(requests)
        top = max((a.score for a in answers if isinstance(a, JudgeResult)), default=1.0)
        return [JudgeResult(a.score / top, None) if isinstance(a, JudgeResult) else a for a in answers]


class Noisy(Good):
    """Draws its grades."""

    def value(self, request):
        return float(torch.rand(()))


class GradesNothing(Good):
    """Gives the middle grade to broken questions."""

    def one(self, request):
        answer = super().one(request)
        return answer if isinstance(answer, JudgeResult) else JudgeResult(0.5, None)


class RaisesAll(Good):
    """Lets one broken question stop all."""

    def one(self, request):
        answer = super().one(request)
        if isinstance(answer, Exception):
            raise UserError("bad images")
        return answer


class Neighbours(Good):
    """A broken question spoils its neighbours."""

    def grade(self, requests):
        answers = super().grade(requests)
        broken = [a for a in answers if isinstance(a, Exception)]
        return [broken[0] for _ in answers] if broken else answers


class Gullible(Good):
    """Believes what stands after a control token."""

    clean = False

    def value(self, request):
        return 1.0 if "<|im_start|>assistant" in request.text else super().value(request)


class Writes(Good):
    """Works in place."""

    def value(self, request):
        value = super().value(request)
        request.images.sub_(1e-7)
        return value


class Keeps(Good):
    """Keeps what it saw."""

    def value(self, request):
        KEPT.append(request.images[0, 0])
        return super().value(request)


class Seeds(Good):
    """Seeds the global generator."""

    def value(self, request):
        torch.manual_seed(0)
        return super().value(request)


class Prints(Good):
    """Tells the world."""

    def value(self, request):
        print("grading")  # noqa: T201
        return super().value(request)


class OtherDevice(Good):
    """Is another one elsewhere."""

    def value(self, request):
        return super().value(request) if self.device == "cpu" else 0.9


class Full(Good):
    """Likes everything."""

    def value(self, request):
        return 1.0


MUTANTS = {
    "an entry too few": ("one-entry-each", Short),
    "crashes on nothing": ("one-entry-each", EmptyCrash),
    "digits": ("one-entry-each", _result(score=7.0)),
    "integer score": ("one-entry-each", _result(score=1)),
    "percent mass": ("one-entry-each", _result(mass=99.0)),
    "unknown source": ("one-entry-each", _result(source="guess")),
    "bare floats": ("one-entry-each", _entry(lambda entry: getattr(entry, "score", entry))),
    "other exceptions": ("one-entry-each", _entry(lambda entry: ValueError("no"))),
    "no reason": ("one-entry-each", _entry(lambda entry: ScoreUnavailable(" "))),
    "one image only": ("gives-results", NoMany),
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
