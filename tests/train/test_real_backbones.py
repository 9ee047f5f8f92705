"""The trainer on real diffusers pipelines with tiny random weights."""

from __future__ import annotations

import pytest
import torch

from train.runs import logged, make_trainer
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler


def sampler_for(kind, **options):
    cls = DDIMSDESampler if kind.startswith("cogvideox") else FlowSDESampler
    return cls(num_inference_steps=4, window=2, window_position="fixed", window_start=1, **options)


def train(folder, checkpoints, kind="wan-2.1", *, sampler=None, **options):
    backbone = checkpoints.backbone(kind, guidance_scale=2.0)
    settings = {
        "max_steps": 4,
        "updates_per_rollout_batch": 2,
        "prompts_per_rollout_batch": 1,
        "num_generations": 2,
        **options,
    }
    trainer = make_trainer(
        folder, backbone=backbone, sampler=sampler or sampler_for(kind), per_device_train_batch_size=1, **settings
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_first_update_replays_the_rollout(tmp_path, checkpoints, bf16):
    trainer = train(tmp_path, checkpoints, bf16=bf16, gradient_checkpointing=True)
    assert logged(trainer, "ratio/max_deviation")[::2] == [0.0, 0.0]
    assert min(logged(trainer, "ratio/max_deviation")[1::2]) > 0
    assert logged(trainer, "ratio/rollout_max_deviation")[0] < (5e-3 if bf16 else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wan-2.2-5B", "wan-2.2-A14B", "cogvideox-1.5"])
def test_every_architecture_trains(tmp_path, checkpoints, kind):
    sampler = sampler_for(kind)
    trainer = train(tmp_path, checkpoints, kind, sampler=sampler)
    assert logged(trainer, "ratio/max_deviation")[0] == 0.0
    assert logged(trainer, "ratio/rollout_max_deviation")[0] < 1e-4
    assert logged(trainer, "loss") != [0.0] * 4


def test_every_adapter_weight_moves_and_the_export_is_a_plain_lora(tmp_path, checkpoints):
    """The exported folder gives, in diffusers alone, the model that was trained."""
    trainer = train(tmp_path, checkpoints, updates_per_rollout_batch=1)
    backbone = trainer.backbone
    moved = {name: float(p.detach().abs().sum()) for name, p in backbone.trainable_parameters() if "lora_B" in name}
    assert moved
    assert min(moved.values()) > 0
    backbone.save_adapter(tmp_path / "adapter")
    pipeline = checkpoints.pipeline("wan-2.1")
    pipeline.load_lora_weights(tmp_path / "adapter")
    pipeline.fuse_lora()
    inputs = {
        "hidden_states": torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)),
        "return_dict": False,
    }
    with torch.no_grad():
        ours = next(iter(backbone.denoisers.values()))(**inputs)[0]
        plain = pipeline.transformer(**inputs)[0]
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-5)
