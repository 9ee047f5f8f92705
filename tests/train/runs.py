"""Training runs on the fake world, for the tests."""

from __future__ import annotations

import torch

from train.fake_world import (
    Brightness,
    CameraAccuracy,
    FakeBackbone,
    FakeSampler,
    Fragile,
    Gain,
    Redness,
    UpperBrightness,
)
from worldr1_core.backbone import AdapterSpec
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.noise import InitialNoise, NoiseConditioner
from worldr1_core.scoring import ScoringEngine
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.stages import Stage
from worldr1_train.trainer import FlowGRPOTrainer

PROMPTS = ("a red ball", "a blue box", "a room", "a cat on a mat")


class White(NoiseConditioner):
    """White noise."""

    def draw(self, request, generator):
        geometry = request.geometry
        shape = (geometry.channels, geometry.num_frames, geometry.height, geometry.width)
        return InitialNoise(torch.randn(shape, generator=generator))


def make_stage(name="main", *, steps=100, rewards=None, prompts=PROMPTS, split=None, conditioner=None):
    weighted = rewards or [WeightedReward("brightness", 1.0, Brightness())]
    return Stage(
        name=name,
        steps=steps,
        split=split or name,
        prompts=list(prompts),
        scorer=ScoringEngine(ScoringComponents(weighted, None, None)),
        weights={reward.name: reward.weight for reward in weighted},
        conditioner=conditioner or White(),
    )


def make_arguments(folder, **options):
    defaults = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "num_generations": 4,
        "prompts_per_rollout_batch": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "gradient_checkpointing": False,
        "max_steps": 4,
        "ema_every": 1,
    }
    return FlowGRPOConfig(**{**defaults, **options})


def make_trainer(
    folder, *, stages=None, backbone=None, sampler=None, callbacks=None, adapter=True, objective=None, **options
):
    backbone = backbone or FakeBackbone()
    if adapter:
        backbone.add_adapter(AdapterSpec(rank=4))
    sampler = sampler or FakeSampler(num_inference_steps=6, window=2)
    arguments = make_arguments(folder, full_finetuning=not adapter, **options)
    stages = stages or [make_stage()]
    return FlowGRPOTrainer(
        backbone,
        args=arguments,
        sampler=sampler,
        stages=stages,
        adapter=False,
        callbacks=callbacks,
        objective=objective,
    )


def reward(name, weight=1.0, **options):
    kinds = {
        "brightness": Brightness,
        "redness": Redness,
        "upper-brightness": UpperBrightness,
        "shine-accuracy": CameraAccuracy,
        "fragile": Fragile,
        "gain": Gain,
    }
    return WeightedReward(name, weight, kinds[name](**options))


def logged(trainer, name):
    """The values of a metric, one a log that holds it."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
