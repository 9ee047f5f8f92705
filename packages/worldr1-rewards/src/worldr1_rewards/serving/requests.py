"""Requests: clips as a safetensors body, checked against the limits before anything is decoded.

Tensors of clip `i`: `clips.i.frames` `(T, 3, H, W)` uint8 or float32; `clips.i.reference` likewise;
`clips.i.target` `(T, 4, 4)` float64 and `clips.i.target_intrinsics` `(3, 3)` float64; `clips.i.intrinsics` `(3, 3)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from worldr1_core.errors import UserError, shorten
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.schema import KEY, ClipPart, ScoreRequest
from worldr1_rewards.serving.tensor_file import TensorFileHeader, TensorInfo, read_header
from worldr1_rewards.serving.wire_errors import malformed, too_large

if TYPE_CHECKING:
    from worldr1_core.clip import Clip

M = TypeVar("M", bound=BaseModel)

VIDEO_TYPES = ("U8", "F32")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request whose sizes are checked, with its clips not decoded yet.

    Attributes:
        request: Description.
        header: Header of the body.
    """

    request: ScoreRequest
    header: TensorFileHeader


def parse_request(body: memoryview, limits: Limits) -> ParsedRequest:
    """Check a request without decoding its clips.

    Args:
        body: The whole body.
        limits: Limits of the server.

    Raises:
        RequestFailed: The body is malformed, or above a limit.
    """
    header = check_body(body, limits)
    request = read_document(ScoreRequest, header.metadata)
    if len(request.clips) > limits.clips:
        raise too_large("Clips of the request", len(request.clips), limits.clips)
    expected: set[str] = set()
    decoded = 0
    for index, clip in enumerate(request.clips):
        for name, is_video in clip_tensors(index, clip):
            expected.add(name)
            info = find_tensor(header.tensors, name)
            if is_video:
                decoded += check_video(name, info, limits)
        _check_geometry(index, clip, header.tensors)
    check_tensor_names(header.tensors, expected)
    if decoded > limits.decoded_bytes:
        raise too_large("Bytes of the decoded frames", decoded, limits.decoded_bytes)
    return ParsedRequest(request, header)


def check_body(body: memoryview, limits: Limits) -> TensorFileHeader:
    """Check the size of a body and read its header.

    Raises:
        RequestFailed: It is no safetensors file, or above a limit.
    """
    if len(body) > limits.body_bytes:
        raise too_large("Bytes of the body", len(body), limits.body_bytes)
    return read_header(body, limits.header_bytes)


def read_document(model: type[M], metadata: Mapping[str, str]) -> M:
    """Validate the JSON in the metadata of a body.

    Raises:
        RequestFailed: It is missing or does not have the documented form.
    """
    if KEY not in metadata:
        raise malformed(f"The metadata of the body lacks the entry {KEY!r}.")
    try:
        return model.model_validate_json(metadata[KEY])
    except ValidationError as error:
        issue = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in issue["loc"]) or "(top level)"
        raise malformed(
            f"The description of the body is not valid at {shorten(where)}: {issue['msg']}, received "
            f"{shorten(issue['input'])}."
        ) from error


def clip_tensors(index: int, clip: ClipPart) -> Iterator[tuple[str, bool]]:
    """Names of the tensors of a clip, each with whether it is a video."""
    yield f"clips.{index}.frames", True
    if clip.reference is not None:
        yield f"clips.{index}.reference", True
    if clip.target is not None:
        yield f"clips.{index}.target", False
        if clip.target.has_intrinsics:
            yield f"clips.{index}.target_intrinsics", False
    if clip.has_intrinsics:
        yield f"clips.{index}.intrinsics", False


def find_tensor(tensors: Mapping[str, TensorInfo], name: str) -> TensorInfo:
    """Return the place of a tensor.

    Raises:
        RequestFailed: It is missing.
    """
    if name not in tensors:
        raise malformed(f"The body lacks the tensor {name!r}.")
    return tensors[name]


def check_tensor_names(tensors: Mapping[str, TensorInfo], expected: Set[str]) -> None:
    """Refuse tensors that the description of a body does not name.

    Raises:
        RequestFailed: There are such tensors.
    """
    if extra := sorted(tensors.keys() - expected):
        raise malformed(f"The body has tensors that nothing describes: {shorten(extra)}.")


def check_video(name: str, info: TensorInfo, limits: Limits) -> int:
    """Check one video, or the images of one question, and return the bytes of its decoded frames.

    Raises:
        RequestFailed: It has another type or shape, or is above a limit.
    """
    shape = info.shape
    if info.dtype not in VIDEO_TYPES or len(shape) != 4 or shape[1] != 3 or min(shape) == 0:
        raise malformed(f"{name} must be uint8 or float32 (T, 3, H, W), received {info.dtype} {shape}.")
    if shape[0] > limits.frames:
        raise too_large(f"Frames of {name}", shape[0], limits.frames)
    if shape[2] * shape[3] > limits.pixels:
        raise too_large(f"Pixels per frame of {name}", shape[2] * shape[3], limits.pixels)
    return 4 * 3 * shape[0] * shape[2] * shape[3]


def _check_geometry(index: int, clip: ClipPart, tensors: Mapping[str, TensorInfo]) -> None:
    names = {"intrinsics": clip.has_intrinsics, "target_intrinsics": clip.target and clip.target.has_intrinsics}
    for name in (f"clips.{index}.{key}" for key, present in names.items() if present):
        info = tensors[name]
        if info.shape != [3, 3] or info.dtype not in ("F32", "F64"):
            raise malformed(f"{name} must be float (3, 3), received {info.dtype} {info.shape}.")
    if clip.target is not None:
        info = tensors[f"clips.{index}.target"]
        if info.dtype != "F64" or len(info.shape) != 3 or info.shape[1:] != [4, 4] or not 0 < info.shape[0] <= 10**6:
            raise malformed(f"clips.{index}.target must be float64 (T, 4, 4), received {info.dtype} {info.shape}.")


def encode_request(
    clips: Sequence[Clip], rewards: Sequence[str], *, composition: str = "", with_reference: bool = False
) -> list[memoryview]:
    """Write clips as the body of a request.

    Args:
        clips: At least one.
        rewards: Rewards to score with.
        composition: Digest of the composition that is expected.
        with_reference: Send the references of the clips.

    Returns:
        Parts of the body, in order.

    Raises:
        UserError: A text is too long for the wire format, or a clip has values that it cannot hold.
    """
    from worldr1_rewards.serving.clip_tensors import clip_part, tensors_of_clip
    from worldr1_rewards.serving.tensor_file import pack

    try:
        parts = [clip_part(clip, with_reference=with_reference) for clip in clips]
        request = ScoreRequest(rewards=list(rewards), composition=composition, clips=parts)
    except ValidationError as error:
        raise unsendable("A clip cannot be sent to rewards that run elsewhere", error) from error
    tensors = {
        f"clips.{index}.{name}": tensor
        for index, clip in enumerate(clips)
        for name, tensor in tensors_of_clip(clip, with_reference=with_reference).items()
    }
    return pack(tensors, {KEY: request.model_dump_json()})


def unsendable(message: str, error: ValidationError) -> UserError:
    """Return the error for something that the wire format cannot hold, with the first reason."""
    issue = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in issue["loc"])
    return UserError(f"{message}: {where}: {issue['msg']}, received {shorten(issue['input'])}.")


def decode_clips(body: memoryview, parsed: ParsedRequest) -> list[Clip]:
    """Return the clips of a checked request, equal to the last bit to those that were sent.

    Frames that were sent as float32 are views of the body.

    Raises:
        RequestFailed: A video, a path or intrinsics hold values that are not allowed.
    """
    from worldr1_rewards.serving.clip_tensors import clip_from_tensors
    from worldr1_rewards.serving.tensor_file import view

    clips = []
    for index, part in enumerate(parsed.request.clips):
        tensors = {name.rpartition(".")[2]: view(body, parsed.header, name) for name, _ in clip_tensors(index, part)}
        try:
            clips.append(clip_from_tensors(part, tensors))
        except UserError as error:
            raise malformed(f"Clip {index}: {error}") from error
    return clips
