"""Clips and scores cross the wire without loss, and what is malformed or too large is refused before it is decoded."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from serving import strategies
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.reward import Score
from worldr1_core.video import Video
from worldr1_rewards.serving.answers import ScoredClip, decode_answer, encode_answer
from worldr1_rewards.serving.frame_bytes import encode_frames
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.requests import decode_clips, encode_request, parse_request
from worldr1_rewards.serving.schema import KEY
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

LIMITS = Limits()


def body_of(clips: list[Clip], **options) -> bytes:
    return b"".join(encode_request(clips, ["contrast"], **options))


def round_trip(clips: list[Clip]) -> list[Clip]:
    body = memoryview(body_of(clips, with_reference=True))
    return decode_clips(body, parse_request(body, LIMITS))


def assert_same(first: object, second: object) -> None:
    """Equal to the last bit, whatever the type."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.contiguous().numpy().tobytes() == second.contiguous().numpy().tobytes()
    elif isinstance(first, Clip | Video | CameraTrajectory):
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    else:
        assert first == second


@settings(max_examples=40, deadline=None)
@given(st.lists(strategies.clips(), min_size=1, max_size=3))
def test_clips_cross_the_wire_to_the_last_bit(clips):
    for sent, received in zip(clips, round_trip(clips), strict=True):
        assert_same(sent, received)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries({"a": strategies.scores(), "b.c": strategies.scores()}), min_size=1, max_size=3))
def test_scores_cross_the_wire_to_the_last_bit(scores):
    answer = encode_answer([ScoredClip(own, {"total": 0.25}) for own in scores])
    received = decode_answer(memoryview(answer), ["a", "b.c"], len(scores))
    for own, clip in zip(scores, received, strict=True):
        assert clip.timings == {"total": 0.25}
        for name, score in own.items():
            other = clip.scores[name]
            assert struct.pack("d", score.value) == struct.pack("d", other.value) or math.isnan(score.value)
            assert (score.reason, score.applicable, score.details) == (other.reason, other.applicable, other.details)
            assert (score.spatial_map is None) == (other.spatial_map is None)
            if score.spatial_map is not None:
                assert torch.equal(score.spatial_map.double().nan_to_num(7), other.spatial_map.double().nan_to_num(7))
                assert score.spatial_map.dtype == other.spatial_map.dtype


def test_frames_of_video_files_take_a_byte_each(make_clip):
    levels = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    small = body_of([Clip(Video(levels.float() / 255), target=None)])
    large = body_of([Clip(Video(levels.float() / 255 * 0.999), target=None)])
    assert len(large) - len(small) == 3 * levels.numel()


def test_the_safetensors_library_reads_a_request(make_clip):
    clip = make_clip(prompt="Camera push in.")
    tensors = load(body_of([clip]))
    assert torch.equal(tensors["clips.0.frames"], clip.video.frames)
    assert torch.equal(tensors["clips.0.target"], clip.target.c2w)


def test_a_request_of_the_safetensors_library_is_read(make_clip):
    clip = make_clip()
    body = body_of([clip])
    (length,) = struct.unpack("<Q", body[:8])
    metadata = json.loads(body[8 : 8 + length])["__metadata__"]
    again = memoryview(save(load(body), metadata))
    (received,) = decode_clips(again, parse_request(again, LIMITS))
    assert torch.equal(received.video.frames, clip.video.frames)


def test_a_name_that_is_no_utf8_is_written_as_an_escape(make_clip):
    (received,) = round_trip([make_clip(name="a\udcff.mp4")])
    assert received.name == "a\\udcff.mp4"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(clips=1), "Clips of the request: received 2, this server allows 1"),
        (Limits(frames=2), "Frames of clips.0.frames: received 3"),
        (Limits(pixels=63), "Pixels per frame of clips.0.frames: received 64"),
        (Limits(body_bytes=1024), "Bytes of the body"),
        (Limits(header_bytes=256), "Bytes of the safetensors header"),
        (Limits(decoded_bytes=4000), "Bytes of the decoded frames: received 4608"),
    ],
)
def test_a_request_above_a_limit_is_refused(make_clip, limits, says):
    body = memoryview(body_of([make_clip(), make_clip(1)]))
    with pytest.raises(RequestFailed, match=says) as caught:
        parse_request(body, limits)
    assert caught.value.code is ErrorCode.TOO_LARGE


def tampered(clip: Clip, change) -> memoryview:
    """A request whose safetensors header is changed, with the data as it was."""
    body = body_of([clip])
    (length,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return memoryview(struct.pack("<Q", len(text)) + text + body[8 + length :])


def described(header: dict, **changes) -> None:
    document = json.loads(header["__metadata__"][KEY])
    header["__metadata__"][KEY] = json.dumps({**document, **changes})


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["clips.0.frames"].update(shape=[2**39, 3, 8, 8]),
        lambda h: h["clips.0.frames"].update(shape=[3, 3, 8, 8, 1]),
        lambda h: h["clips.0.frames"].update(shape=[-3, 3, 8, -8]),
        lambda h: h["clips.0.frames"].update(dtype="I64"),
        lambda h: h["clips.0.frames"].update(data_offsets=[8, 2312]),
        lambda h: h["clips.0.frames"].update(data_offsets=[0, 10**30]),
        lambda h: h.update({"other": {"dtype": "U8", "shape": [0], "data_offsets": [2304, 2304]}}),
        lambda h: h.pop("clips.0.frames"),
        lambda h: h.pop("__metadata__"),
        lambda h: described(h, version=2),
        lambda h: described(h, rewards=[]),
        lambda h: described(h, clips=[]),
        lambda h: described(h, surprise=1),
    ],
)
def test_a_malformed_request_is_refused(make_clip, change):
    body = tampered(make_clip(), change)
    with pytest.raises(RequestFailed) as caught:
        parse_request(body, LIMITS)
    assert caught.value.code is ErrorCode.MALFORMED


def test_frames_that_are_no_video_are_refused(make_clip):
    body = bytearray(body_of([make_clip()]))
    body[-4:] = struct.pack("<f", math.nan)
    with pytest.raises(RequestFailed, match="NaN"):
        decode_clips(memoryview(body), parse_request(memoryview(body), LIMITS))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_damage_is_refused_or_still_a_request(data):
    body = bytearray(body_of([Clip(Video(torch.zeros(2, 3, 4, 4)), prompt="Camera push in.")]))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = memoryview(bytes(body[: data.draw(st.integers(0, len(body)))]))
    with contextlib.suppress(RequestFailed):  # any other exception fails the test
        assert decode_clips(body, parse_request(body, LIMITS))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(body):
    with pytest.raises(RequestFailed):
        parse_request(memoryview(body), LIMITS)


def test_deep_nesting_is_refused():
    text = b'{"a":' * 100_000
    with pytest.raises(RequestFailed):
        parse_request(memoryview(struct.pack("<Q", len(text)) + text), LIMITS)


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"1"', "null"])
def test_an_answer_without_a_number_or_a_reason_is_refused(value):
    answer = encode_answer([ScoredClip({"a": Score(0.5)}, {})])
    assert answer.count(b'\\"value\\":0.5') == 1
    text = answer[8:].rstrip().replace(b'\\"value\\":0.5', b'\\"value\\":' + value.replace('"', '\\"').encode())
    with pytest.raises(RequestFailed) as caught:
        decode_answer(memoryview(struct.pack("<Q", len(text)) + text), ["a"], 1)
    assert caught.value.code is ErrorCode.MALFORMED


def test_an_answer_to_another_question_is_refused():
    answer = memoryview(encode_answer([ScoredClip({"a": Score(0.5)}, {})]))
    with pytest.raises(RequestFailed, match="1 clips, and 2 were sent"):
        decode_answer(answer, ["a"], 2)
    with pytest.raises(RequestFailed, match="asked for"):
        decode_answer(answer, ["b"], 1)


@pytest.mark.parametrize("value", [math.nan, -0.0, 1e-42, 0.5, 256 / 255, -1.0, 1e30])
def test_a_value_that_is_no_level_keeps_all_values_as_floats(value):
    frames = (torch.arange(256, dtype=torch.uint8).float() / 255).view(1, 1, 16, 16)
    assert torch.equal(encode_frames(frames).view(-1), torch.arange(256, dtype=torch.uint8))
    frames.view(-1)[7] = value
    sent = encode_frames(frames)
    assert sent.dtype == torch.float32
    assert sent.numpy().tobytes() == frames.numpy().tobytes()
