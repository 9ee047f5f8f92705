"""For every kind of component, one whose main method raises an exception. Module level, so that they pickle."""

from __future__ import annotations

from testing_kit import (
    broken_backbones,
    broken_judges,
    broken_noise,
    broken_objectives,
    broken_reconstructors,
    broken_rewards,
    broken_samplers,
)


class Backbone(broken_backbones.Good):
    """Encodes nothing."""

    def encode(self, prompts):
        raise LookupError("nothing here")


class Judge(broken_judges.Good):
    """Grades nothing."""

    def grade(self, requests):
        raise LookupError("nothing here")


class Noise(broken_noise.Good):
    """Draws nothing."""

    def initial_noise(self, request):
        raise LookupError("nothing here")


class Objective(broken_objectives.Good):
    """Has no loss."""

    def loss(self, batch, policy):
        raise LookupError("nothing here")


class Reconstructor(broken_reconstructors.Good):
    """Reconstructs nothing."""

    def reconstruct(self, clip):
        raise LookupError("nothing here")


class Reward(broken_rewards.GoodGradient):
    """Scores nothing, in [0, 1]."""

    def score(self, clip, inputs):
        raise LookupError("nothing here")


class Sampler(broken_samplers.Good):
    """Makes no policy."""

    def make_scheduler(self, base):
        raise LookupError("nothing here")
