"""Rewards and the judge of a server, as a composition uses them: checked to be the same, and missing if it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, UserError, WorldR1Error
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.placement import JudgePart, PlacedPart, RemoteScorer, ScoredClip
from worldr1_rewards.judges.images import image_problem
from worldr1_rewards.serving.client import ScoringClient
from worldr1_rewards.serving.composition import Composition, describe_composition
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

_REFUSALS = (ErrorCode.NOT_USABLE, ErrorCode.UNAUTHORISED)
"""Failures that every clip would meet."""
T = TypeVar("T")


class AgreedServers:
    """Servers that have what is expected of them, with the same options.

    Args:
        client: Client of the servers.
        expected: What they must have.
        where: How messages call the servers.

    Raises:
        UserError: The servers have something else, or refuse the client.
        WorldR1Error: They cannot be reached.
    """

    def __init__(self, client: ScoringClient, expected: Composition, where: str) -> None:
        self._client, self._expected, self._where = client, expected, where
        self._digest = self._agree()

    def ask(self, question: Callable[[str], T]) -> T:
        """Ask with the digest of what the servers have.

        Raises:
            UserError: Every question would be refused.
            ScoreUnavailable: There is no answer.
        """
        for attempt in range(2):
            try:
                return question(self._digest)
            except RequestFailed as error:
                if error.code in _REFUSALS:
                    raise UserError(f"{self._where}: {error}") from error
                if error.code is not ErrorCode.OTHER_COMPOSITION or attempt:
                    raise ScoreUnavailable(f"{self._where}: {error}") from error
                self._digest = self._agree()  # the server was started again, with more rewards or other options
        raise AssertionError("the second attempt returns or raises")

    def _agree(self) -> str:
        """Check that the servers have what is expected, and return the digest of what they have."""
        try:
            served = self._client.composition()
        except RequestFailed as error:
            kind = UserError if error.code is ErrorCode.UNAUTHORISED else WorldR1Error
            raise kind(f"{self._where}: {error}") from error
        if differences := self._expected.differences(served.composition):
            raise UserError(
                f"{self._where} does not score as this manifest asks: {'; '.join(differences[:5])}. Start it with the "
                "same manifest and the same versions."
            )
        return served.digest


class ServedRewards(RemoteScorer):
    """Rewards behind a client.

    Args:
        client: Client of the servers.
        part: Rewards that are expected there, with their options.
        where: How messages call the servers.

    Raises:
        UserError: The servers have other rewards, or refuse the client.
        WorldR1Error: They cannot be reached.
    """

    def __init__(self, client: ScoringClient, part: PlacedPart, where: str) -> None:
        self.client = client
        expected = describe_composition(part.rewards, part.reconstructor, part.judge, part.registry)
        self._servers = AgreedServers(client, expected, where)

    def score(self, clips: Sequence[Clip], rewards: Sequence[str], *, with_reference: bool) -> list[ScoredClip]:
        """See `RemoteScorer.score`."""
        return self._servers.ask(
            lambda digest: self.client.score(clips, rewards, composition=digest, with_reference=with_reference)
        )


class ServedJudge(Judge):
    """A judge behind a client.

    Args:
        client: Client of the servers.
        part: Judge that is expected there, with its options.
        where: How messages call the servers.

    Raises:
        UserError: The servers have another judge, or refuse the client.
        WorldR1Error: They cannot be reached.
    """

    def __init__(self, client: ScoringClient, part: JudgePart, where: str) -> None:
        super().__init__()
        self.client = client
        expected = describe_composition([], None, part.judge, part.registry, with_judge=True)
        self._servers = AgreedServers(client, expected, where)

    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        """See `Judge.grade`; if there is no answer, every question has that reason.

        Raises:
            UserError: The judge cannot work for any question.
        """
        problems = [image_problem(request.images) for request in requests]
        sent = [request for request, problem in zip(requests, problems, strict=True) if problem is None]
        try:
            graded = self._ask(sent) if sent else []
        except ScoreUnavailable as error:
            graded = [error] * len(sent)
        results = iter(graded)
        return [next(results) if problem is None else ScoreUnavailable(problem) for problem in problems]

    def _ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        return self._servers.ask(lambda digest: self.client.grade(requests, composition=digest))
