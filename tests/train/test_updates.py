"""The plan of micro-batches and the buffer that survives a restart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.policy_step import DenoiserCall, PolicyStep, SchedulePoint
from worldr1_core.video import Video
from worldr1_train.clip_state import pack_clip, unpack_clip
from worldr1_train.turns import Turn, count_valid_items
from worldr1_train.updates import MicroBatch, UpdateBuffer, plan_micro_batches


def plan(num_chunks=2, first_chunk=0, *, chunk_size=4, window=2, batch=2, seed=0, rollout_batch=0):
    return plan_micro_batches(num_chunks, chunk_size, window, batch, seed, rollout_batch, first_chunk)


def pairs(batches, first_chunk=0, chunk_size=4, window=2):
    """Multiset of (sample among all processes, window step)."""
    return Counter((first_chunk * chunk_size + sample, batch.item) for batch in batches for sample in batch.samples)


def test_every_pair_comes_once_and_rows_match_samples():
    batches = plan()
    assert pairs(batches) == Counter((sample, step) for sample in range(8) for step in range(2))
    for batch in batches:
        assert [4 * batch.chunk + row for row in batch.rows] == list(batch.samples)


def test_order_depends_on_seed_and_rollout_batch_alone():
    first = [batch.samples for batch in plan()]
    assert first == [batch.samples for batch in plan()]
    assert first != [batch.samples for batch in plan(rollout_batch=1)]
    assert first != [batch.samples for batch in plan(seed=1)]


def test_units_of_samples_stay_together_in_a_random_order():
    batches = plan_micro_batches(1, 12, 2, 4, 0, 0, 0, unit=2)
    assert pairs(batches, chunk_size=12) == Counter((sample, step) for sample in range(12) for step in range(2))
    assert all((rows := batch.rows)[i] % 2 == 0 and rows[i + 1] == rows[i] + 1 for batch in batches for i in (0, 2))
    assert len({batch.rows for batch in batches}) == 6


@pytest.mark.parametrize("num_updates", [1, 2, 4])
def test_optimiser_steps_see_the_same_pairs_however_many_processes(num_updates):
    one = plan(num_chunks=2)
    halves = [plan(num_chunks=1, first_chunk=rank) for rank in (0, 1)]
    for update in range(num_updates):
        whole = pairs(one[update * len(one) // num_updates : (update + 1) * len(one) // num_updates])
        shared = Counter()
        for rank, half in enumerate(halves):
            part = half[update * len(half) // num_updates : (update + 1) * len(half) // num_updates]
            shared += pairs(part, first_chunk=rank)
        assert whole == shared


def test_valid_pairs_are_counted_for_every_optimiser_step():
    batches = [MicroBatch(0, 0, (0, 1), (0, 1)), MicroBatch(0, 0, (2, 3), (2, 3))]
    valid = torch.tensor([True, True, False, True])
    turns = [Turn(0, 0), Turn(0, 1), Turn(0, 0), Turn(0, 1)]
    assert count_valid_items(turns, 0, batches, valid, 1).tolist() == [2, 1, 2, 1]
    assert count_valid_items(turns, 0, batches, valid, 2).tolist() == [3, 3]
    assert count_valid_items([None, *turns[:2], Turn(1, 0)], 0, batches, valid, 2).tolist() == [2, 1]


def test_buffer_survives_a_restart_without_unpickling_code(tmp_path):
    call = DenoiserCall(
        "transformer", (torch.ones(2, 1),), {"timestep": torch.zeros(2), "attention": None, "rope": (torch.eye(2), 3)}
    )
    point = SchedulePoint(3, 500.0, 0.5, 0.4, 0.9)
    step = PolicyStep(point, *(torch.randn(2, 3) for _ in range(3)), 0.25, torch.randn(2), (call,))
    batch = MicroBatch(0, 0, (1, 0), (1, 0), 5, {"old_log_prob": torch.randn(2)})
    buffer = UpdateBuffer([step], [torch.randn(2, 3)], [batch], torch.randn(2), torch.tensor([True, False]), [1])
    torch.save(buffer.state_dict(), tmp_path / "buffer.pt")
    state = torch.load(tmp_path / "buffer.pt", weights_only=True)
    back = UpdateBuffer.from_state_dict(state, torch.device("cpu"))
    assert back.steps[0].point == point
    assert torch.equal(back.steps[0].sample, step.sample)
    assert back.steps[0].std == 0.25
    assert torch.equal(back.steps[0].calls[0].kwargs["rope"][0], torch.eye(2))
    assert back.steps[0].calls[0].kwargs["attention"] is None
    assert (back.micro_batches[0].rows, back.micro_batches[0].samples) == ((1, 0), (1, 0))
    assert torch.equal(back.micro_batches[0].data["old_log_prob"], batch.data["old_log_prob"])
    assert back.micro_batches[0].seed == 5
    assert torch.equal(back.latents[0], buffer.latents[0])
    assert (back.valid.tolist(), back.num_valid_items) == ([True, False], [1])


def test_clips_survive_a_restart(tmp_path):
    frames = torch.rand(5, 3, 16, 16)
    clip = replace(Clip(Video(frames, fps=8.0), "Camera orbit left. A lamp.", name="sample 3"), reference=Video(frames))
    bare = Clip(Video(frames), "", None)
    torch.save([pack_clip(clip), pack_clip(bare)], tmp_path / "clips.pt")
    back, other = (unpack_clip(packed) for packed in torch.load(tmp_path / "clips.pt", weights_only=True))
    assert torch.equal(back.video.frames, frames)
    assert torch.equal(back.target.c2w, clip.target.c2w)
    assert back.target.scene_depth == clip.target.scene_depth
    assert (back.prompt, back.name, back.moves, back.video.fps) == (clip.prompt, clip.name, clip.moves, 8.0)
    assert torch.equal(back.reference.frames, frames)
    assert other.target is None
    assert other.reference is None
