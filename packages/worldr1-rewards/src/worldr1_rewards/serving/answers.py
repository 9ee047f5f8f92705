"""Answers: scores, reasons, details and spatial maps as a safetensors body.

The spatial map of a score is the tensor `maps.i.NAME` `(h, w)` of clip `i`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worldr1_core.placement import ScoredClip
from worldr1_rewards.serving.requests import read_document
from worldr1_rewards.serving.schema import KEY, ClipAnswer, ScoreAnswer, ScorePart, wire_text
from worldr1_rewards.serving.tensor_file import pack, read_header, view
from worldr1_rewards.serving.wire_errors import malformed

if TYPE_CHECKING:
    from torch import Tensor

    from worldr1_core.reward import Score

_MAX_MAP_PIXELS = 2**26


def encode_answer(clips: Sequence[ScoredClip]) -> bytes:
    """Write the scores of clips as the body of an answer."""
    tensors: dict[str, Tensor] = {}
    answers = []
    for index, clip in enumerate(clips):
        parts = {}
        for name, score in clip.scores.items():
            parts[name] = _score_part(score)
            if score.spatial_map is not None:
                tensors[_map_name(index, name)] = _wire_map(score.spatial_map)
        answers.append(ClipAnswer(scores=parts, timings={name: float(s) for name, s in clip.timings.items()}))
    return b"".join(pack(tensors, {KEY: ScoreAnswer(clips=answers).model_dump_json()}))


def decode_answer(body: memoryview, rewards: Sequence[str], num_clips: int) -> list[ScoredClip]:
    """Read an answer.

    Args:
        body: The whole body.
        rewards: Rewards that were asked for.
        num_clips: Clips that were sent.

    Raises:
        RequestFailed: It is malformed, or has other clips or rewards than the request.
    """
    header = read_header(body, max_header_bytes=len(body))
    answer = read_document(ScoreAnswer, header.metadata)
    if len(answer.clips) != num_clips:
        raise malformed(f"The answer has {len(answer.clips)} clips, and {num_clips} were sent.")
    clips = []
    for index, clip in enumerate(answer.clips):
        if clip.scores.keys() != set(rewards):
            raise malformed(f"The answer has scores of {sorted(clip.scores)}, and {sorted(rewards)} were asked for.")
        scores = {}
        for name, part in clip.scores.items():
            place = _map_name(index, name)
            info = header.tensors.get(place)
            if part.has_map and (info is None or len(info.shape) != 2 or math.prod(info.shape) > _MAX_MAP_PIXELS):
                raise malformed(f"The answer lacks the spatial map {place!r}, or it is no matrix of floats.")
            scores[name] = _score(part, view(body, header, place).clone() if part.has_map else None)
        clips.append(ScoredClip(scores, dict(clip.timings)))
    return clips


def _map_name(index: int, reward: str) -> str:
    return f"maps.{index}.{reward}"


def _wire_map(values: Tensor) -> Tensor:
    values = values.detach().cpu()
    return values if values.is_floating_point() else values.double()


def _score_part(score: Score) -> ScorePart:
    return ScorePart(
        value=None if math.isnan(score.value) else score.value,
        reason=None if score.reason is None else wire_text(score.reason),
        applicable=score.applicable,
        details=_plain(dict(score.details)),
        has_map=score.spatial_map is not None,
    )


def _score(part: ScorePart, spatial_map: Tensor | None) -> Score:
    from worldr1_core.reward import Score

    value = math.nan if part.value is None else part.value
    return Score(value, part.reason, part.applicable, part.details, spatial_map)


def _plain(value: Any) -> Any:
    """JSON values, by the rules of the records that `worldr1 score` prints: NaN becomes null, other objects text."""
    if isinstance(value, dict):
        return {wire_text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else wire_text(str(value))
