"""Run by two processes: a policy sharded by FSDP2 samples, predicts and learns as the whole one does."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

sys.path.insert(0, str(Path(__file__).parents[1]))

from train.fake_world import FakeBackbone, FakeSampler
from train.runs import make_stage
from worldr1_core.backbone import AdapterSpec
from worldr1_core.generation_components import GenerationComponents
from worldr1_train.ema import ExponentialMovingAverage
from worldr1_train.policy_model import PolicyModel, StepInput, copy_parameters, local_tensor, whole_tensor
from worldr1_train.policy_pipeline import policy_pipeline
from worldr1_train.rollouts import RolloutCollector, RolloutRequest


def make_policy():
    backbone = FakeBackbone()
    backbone.add_adapter(AdapterSpec(rank=4, seed=1))
    model = PolicyModel(backbone)
    for parameter in model.trainable().values():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(3))
    return model


def collect(model):
    components = GenerationComponents(model.backbone, FakeSampler(num_inference_steps=4))
    pipeline = policy_pipeline(components, model, contextlib.nullcontext)
    collector = RolloutCollector(model, pipeline, 2, 1, asynchronous=False)
    return collector.collect(RolloutRequest(0, 0, make_stage(), (1, 2), ["a cat"], 0))


def gradients(model, step):
    model(StepInput(step)).pow(2).mean().backward()
    return {name: whole_tensor(p.grad) for name, p in model.trainable().items()}


def main():
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole, sharded = make_policy(), make_policy()
    fully_shard(sharded.denoisers["transformer"].enter, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    sharded.register_rollout_forward()
    expected, got = collect(whole), collect(sharded)
    assert [score.total for score in got.scores] == [score.total for score in expected.scores]
    assert torch.equal(got.steps[0].next_sample, expected.steps[0].next_sample)
    with torch.no_grad():
        assert torch.equal(sharded(StepInput(got.steps[0])), whole(StepInput(expected.steps[0])))
        with sharded.reference():
            reference = sharded(StepInput(got.steps[0]))
        assert not torch.equal(reference, whole(StepInput(expected.steps[0])))
    ours, theirs = gradients(sharded, got.steps[0]), gradients(whole, expected.steps[0])
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient)
    average = ExponentialMovingAverage(sharded.trainable(), decay=0.5, every=1)
    before = {name: whole_tensor(p.detach()).clone() for name, p in sharded.trainable().items()}
    with torch.no_grad():
        for parameter in sharded.trainable().values():
            local_tensor(parameter).add_(1.0)
    average.update(100)
    with average.applied():
        for name, parameter in sharded.trainable().items():
            torch.testing.assert_close(whole_tensor(parameter.detach()), before[name] + 0.5)
    exported = make_policy()
    copy_parameters(exported.trainable(), {n: whole_tensor(p.detach()) for n, p in sharded.trainable().items()})
    for name, parameter in exported.trainable().items():
        torch.testing.assert_close(parameter, before[name] + 1)
    sys.stdout.write(f"rank {dist.get_rank()} agrees\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
