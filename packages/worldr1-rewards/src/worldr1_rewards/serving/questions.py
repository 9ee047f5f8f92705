"""Requests to a judge and their answers, as safetensors bodies that are checked before anything is decoded.

The images of question `i` are the tensor `questions.i.images` `(N, 3, H, W)` uint8 or float32. An answer has no
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from worldr1_core.errors import (
    ScoreNotApplicable,
    ScoreUnavailable,
    describe_exception,
    shorten,
)
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.requests import (
    check_body,
    check_tensor_names,
    check_video,
    find_tensor,
    read_document,
    unsendable,
)
from worldr1_rewards.serving.schema import KEY, GradeAnswer, GradePart, GradeRequest, QuestionPart, wire_text
from worldr1_rewards.serving.tensor_file import TensorFileHeader, pack, read_header, view
from worldr1_rewards.serving.wire_errors import malformed, too_large

if TYPE_CHECKING:
    from worldr1_core.judge import JudgeRequest, JudgeResult


@dataclass(frozen=True, slots=True)
class ParsedQuestions:
    """A request to the judge whose sizes are checked, with its images not decoded yet.

    Attributes:
        request: Description.
        header: Header of the body.
    """

    request: GradeRequest
    header: TensorFileHeader


def encode_questions(questions: Sequence[JudgeRequest], *, composition: str = "") -> list[memoryview]:
    """Write questions as the body of a request.

    Args:
        questions: At least one; images `(N, 3, H, W)` are sent as float32, or as bytes where nothing is lost.
        composition: Digest of the composition that is expected.

    Returns:
        Parts of the body, in order.

    Raises:
        UserError: A text is too long for the wire format.
    """
    from worldr1_rewards.serving.frame_bytes import encode_frames

    try:
        parts = [QuestionPart(text=wire_text(question.text)) for question in questions]
        request = GradeRequest(composition=composition, questions=parts)
    except ValidationError as error:
        raise unsendable("A question cannot be sent to a judge that runs elsewhere", error) from error
    tensors = {_images(index): encode_frames(question.images.float()) for index, question in enumerate(questions)}
    return pack(tensors, {KEY: request.model_dump_json()})


def parse_questions(body: memoryview, limits: Limits) -> ParsedQuestions:
    """Check a request to the judge without decoding its images.

    Args:
        body: The whole body.
        limits: Limits of the server: those of clips hold for questions, those of frames for images.

    Raises:
        RequestFailed: The body is malformed, or above a limit.
    """
    header = check_body(body, limits)
    request = read_document(GradeRequest, header.metadata)
    if len(request.questions) > limits.clips:
        raise too_large("Questions of the request", len(request.questions), limits.clips)
    names = [_images(index) for index in range(len(request.questions))]
    decoded = sum(check_video(name, find_tensor(header.tensors, name), limits) for name in names)
    check_tensor_names(header.tensors, set(names))
    if decoded > limits.decoded_bytes:
        raise too_large("Bytes of the decoded images", decoded, limits.decoded_bytes)
    return ParsedQuestions(request, header)


def decode_questions(body: memoryview, parsed: ParsedQuestions) -> list[JudgeRequest]:
    """Return the questions of a checked request, equal to the last bit to those that were sent.

    The values of images are not checked: a judge has a reason of its own for those that it cannot use.
    """
    from worldr1_core.judge import JudgeRequest
    from worldr1_rewards.serving.frame_bytes import decode_frames

    questions = []
    for index, part in enumerate(parsed.request.questions):
        questions.append(JudgeRequest(decode_frames(view(body, parsed.header, _images(index))), part.text))
    return questions


def encode_grades(results: Sequence[JudgeResult | Exception]) -> bytes:
    """Write what a judge returned as the body of an answer; a result that is not allowed becomes a reason."""
    answer = GradeAnswer(grades=[_grade_part(result) for result in results])
    return b"".join(pack({}, {KEY: answer.model_dump_json()}))


def decode_grades(body: memoryview, num_questions: int) -> list[JudgeResult | Exception]:
    """Read the answer of a judge.

    Args:
        body: The whole body.
        num_questions: Questions that were sent.

    Raises:
        RequestFailed: It is malformed, or has other questions than the request.
    """
    answer = read_document(GradeAnswer, read_header(body, max_header_bytes=len(body)).metadata)
    if len(answer.grades) != num_questions:
        raise malformed(f"The answer has {len(answer.grades)} grades, and {num_questions} questions were sent.")
    return [_result(part) for part in answer.grades]


def _images(index: int) -> str:
    return f"questions.{index}.images"


def _grade_part(result: JudgeResult | Exception) -> GradePart:
    if isinstance(result, Exception):
        reason = str(result) if isinstance(result, ScoreUnavailable) else describe_exception(result)
        applicable = not isinstance(result, ScoreNotApplicable)
        return GradePart(score=None, reason=wire_text(reason), applicable=applicable)
    try:
        mass = None if result.mass is None else float(result.mass)
        return GradePart(score=float(result.score), mass=mass, source=wire_text(result.source))
    except ValidationError:
        return GradePart(score=None, reason=f"the judge returned {shorten(result)}, which is no grade in [0, 1]")


def _result(part: GradePart) -> JudgeResult | Exception:
    from worldr1_core.judge import JudgeResult

    if part.score is None:
        return (ScoreUnavailable if part.applicable else ScoreNotApplicable)(str(part.reason))
    return JudgeResult(part.score, part.mass, part.source)
