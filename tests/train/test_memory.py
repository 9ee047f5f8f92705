"""Memory told before a run, and its peak while it goes."""

from __future__ import annotations

import torch

from train.runs import logged, make_trainer
from worldr1_train.memory import GIB, MemoryNeeds, available_memory, count_memory, peak_memory

CPU = torch.device("cpu")


def _needs(trainer) -> MemoryNeeds:
    return count_memory(
        trainer.model, trainer.args, list(trainer.objectives.values()), trainer.turn_plan.most_recorded_steps
    )


def test_an_adapter_is_counted_with_gradient_moments_and_average(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.0)
    needs = _needs(trainer)
    assert needs.denoisers == sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    trained = sum(p.numel() for p in trainer.model.trainable().values())
    assert needs.training == 4 * 4 * trained
    assert _needs(make_trainer(tmp_path, beta=0.0, ema_decay=None)).training == 3 * 4 * trained


def test_full_finetuning_with_a_kl_term_keeps_the_initial_weights(tmp_path):
    with_kl, without = (_needs(make_trainer(tmp_path, adapter=False, beta=beta)) for beta in (0.1, 0.0))
    assert with_kl.training - without.training == without.training // 4


def test_rollouts_and_videos_grow_with_groups_and_blocks(tmp_path):
    small = make_trainer(tmp_path, prompts_per_rollout_batch=2, beta=0.0, max_steps=1)
    large = make_trainer(tmp_path, prompts_per_rollout_batch=4, groups_per_rollout=2, beta=0.0)
    small.train()
    recorded = sum(step.sample.nbytes + step.next_sample.nbytes for step in small.buffers[0].steps)
    assert _needs(small).rollouts == recorded
    assert _needs(large).rollouts == 2 * _needs(small).rollouts
    assert _needs(large).videos == 2 * _needs(small).videos
    clip = small.last_rollout_batch.clips[0].video.frames
    assert _needs(small).videos == 2 * 4 * clip.numel() * 4  # two chunks of a group of four


def test_parts_are_told_in_gib_with_their_sum():
    needs = MemoryNeeds(denoisers=GIB, training=2 * GIB, rollouts=GIB // 2, videos=0)
    assert needs.in_gib() == {"denoisers": 1.0, "training": 2.0, "rollouts": 0.5, "videos": 0.0, "at_least": 3.5}


def test_the_peak_is_logged_and_lies_within_what_there_is(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=1)
    before = peak_memory(CPU)
    trainer.train()
    (peak,) = logged(trainer, "memory/max_gib")
    assert before <= round(peak * GIB) + GIB // 1000
    assert peak * GIB < available_memory(CPU)
