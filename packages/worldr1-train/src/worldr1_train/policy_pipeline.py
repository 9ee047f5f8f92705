"""The pipeline of core, run by the policy under training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from worldr1_core.generation_components import GenerationComponents
from worldr1_core.pipeline import VideoPipeline
from worldr1_train.policy_model import PolicyModel


def policy_pipeline(
    components: GenerationComponents,
    model: PolicyModel,
    autocast: Callable[[], AbstractContextManager[None]],
    *,
    num_inference_steps: int | None = None,
) -> VideoPipeline:
    """A pipeline that runs the denoisers as the update does.

    Args:
        components: Backbone of the model, sampler, and noise conditioner.
        model: Policy; it gathers sharded weights for every call.
        autocast: Makes the context in which denoisers run, the same as in the update.
        num_inference_steps: Instead of the sampler's.
    """

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with autocast():
            return model.call_unsharded(function, *args, **kwargs)

    return components.make_pipeline(num_inference_steps=num_inference_steps, call=call)
