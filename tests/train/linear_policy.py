"""A policy whose velocity is linear in the sample, for losses that can be written out."""

from __future__ import annotations

import contextlib

import torch

from train.fake_world import FakePolicy
from worldr1_core.objective import UpdateBatch
from worldr1_core.policy import PolicyStep

NUM_STEPS, SHAPE = 4, (3, 2, 4, 5)
ADVANTAGES = torch.tensor([1.5, 0.0, -2.5])
LATENTS = torch.randn(3, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
SEED = 11


class LinearPolicy:
    """The velocity is `weight` x + `bias`."""

    updates_per_rollout = 2

    def __init__(self):
        self.scheduler = FakePolicy()
        self.scheduler.set_timesteps(NUM_STEPS)
        self.values = {"weight": torch.tensor(0.6), "bias": torch.tensor(0.1)}

    def predict(self, step, sample=None):
        return self.values["weight"] * (step.sample if sample is None else sample) + self.values["bias"]

    def parameters(self):
        return {name: value.detach() for name, value in self.values.items()}

    @contextlib.contextmanager
    def with_parameters(self, values):
        kept, self.values = self.values, {**self.values, **values}
        yield
        self.values = kept

    def reference(self):
        return self.with_parameters({"weight": torch.tensor(0.5), "bias": torch.tensor(0.0)})

    def note(self, name, values, valid):
        assert values.shape[:1] == valid.shape

    def steps(self):
        nothing = torch.zeros(SHAPE)
        points = [self.scheduler.point(index) for index in range(NUM_STEPS)]
        return [PolicyStep(point, nothing, nothing, nothing, 0.0, torch.zeros(3)) for point in points]

    def batch(self, item=0, advantages=ADVANTAGES, **options):
        steps = self.steps()
        return UpdateBatch(
            item=item,
            num_steps=NUM_STEPS,
            select=steps.__getitem__,
            latents=LATENTS,
            advantages=advantages,
            valid=torch.ones(3, dtype=torch.bool),
            generator=torch.Generator().manual_seed(SEED),
            **options,
        )
