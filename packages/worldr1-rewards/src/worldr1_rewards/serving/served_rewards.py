"""Rewards of a server, as a composition uses them: checked to be the same rewards, and missing if it fails."""

from __future__ import annotations

from collections.abc import Sequence

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, UserError, WorldR1Error
from worldr1_core.placement import PlacedPart, RemoteScorer, ScoredClip
from worldr1_rewards.serving.client import ScoringClient
from worldr1_rewards.serving.composition import describe_composition
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

_REFUSALS = (ErrorCode.NOT_USABLE, ErrorCode.UNAUTHORISED)
"""Failures that every clip would meet."""


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
        self.client, self._where = client, where
        self._expected = describe_composition(part.rewards, part.reconstructor, part.judge, part.registry)
        self._digest = self._agree()

    def score(self, clips: Sequence[Clip], rewards: Sequence[str], *, with_reference: bool) -> list[ScoredClip]:
        """See `RemoteScorer.score`."""
        for attempt in range(2):
            try:
                return self.client.score(clips, rewards, composition=self._digest, with_reference=with_reference)
            except RequestFailed as error:
                if error.code in _REFUSALS:
                    raise UserError(f"{self._where}: {error}") from error
                if error.code is not ErrorCode.OTHER_COMPOSITION or attempt:
                    raise ScoreUnavailable(f"{self._where}: {error}") from error
                self._digest = self._agree()  # the server was started again, with more rewards or other options
        raise AssertionError("the second attempt returns or raises")

    def _agree(self) -> str:
        """Check that the servers have the expected rewards, and return the digest of what they have."""
        try:
            served = self.client.composition()
        except RequestFailed as error:
            kind = UserError if error.code is ErrorCode.UNAUTHORISED else WorldR1Error
            raise kind(f"{self._where}: {error}") from error
        if differences := self._expected.differences(served.composition):
            raise UserError(
                f"{self._where} does not score as this manifest asks: {'; '.join(differences[:5])}. Start it with the "
                "same manifest and the same versions."
            )
        return served.digest
