"""Video pipeline that runs the policy in training."""

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
    """Create a pipeline that runs the denoisers with the same precision and sharding as the update.

    Args:
        components: Backbone of the model, sampler, and noise conditioner.
        model: Policy; it gathers sharded weights for every call.
        autocast: Returns the autocast context of the denoisers, the same as in the update.
        num_inference_steps: Number of sampler steps. Defaults to the sampler's.
    """

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with autocast():
            return model.call_unsharded(function, *args, **kwargs)

    return components.make_pipeline(num_inference_steps=num_inference_steps, call=call)
