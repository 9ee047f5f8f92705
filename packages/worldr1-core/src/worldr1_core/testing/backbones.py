"""The conformance kit for backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worldr1_core.backbone import AdapterSpec
from worldr1_core.sampler import Sampler
from worldr1_core.testing.backbone_contracts import BACKBONE_CONTRACTS
from worldr1_core.testing.backbone_subject import PROMPTS, BackboneSubject
from worldr1_core.testing.report import Check, Report, bind, report_on


def backbone_checks(
    backbone: Any,
    *,
    options: Mapping[str, Any] | None = None,
    sampler: Sampler | None = None,
    prompts: Sequence[str] = PROMPTS,
    num_inference_steps: int = 4,
    adapter: AdapterSpec | None = None,
    skip: Mapping[str, str] | None = None,
    tolerance: float = 1e-4,
    device: str = "cuda",
    round_trip: float | None = None,
) -> list[Check[BackboneSubject]]:
    """List the checks of a backbone, for `@pytest.mark.parametrize("check", …, ids=str)`.

    Give options with which a video takes a second or less: a tiny random checkpoint, few frames.

    Args:
        backbone: `Backbone` class, instance, or function without arguments that returns a new instance. Checks of the
            adapter need a class or a function.
        options: Fields of its `Config`, where a class is given.
        sampler: Makes the policy; a simple one of the kit's own, for diffusers schedulers, if left out.
        prompts: Two prompts that it tells apart.
        num_inference_steps: At least 3; as many as it takes to call every denoiser before the last step.
        adapter: What is put on it; rank 2 on the backbone's own targets if left out.
        skip: Check name -> why it does not hold for this backbone.
        tolerance: Largest difference of states that count as equal, relative to their scale.
        device: A second device, beside the CPU.
        round_trip: Largest root mean square difference of a video that is encoded and decoded; not checked if left
            out, since random weights reconstruct nothing.

    Raises:
        UserError: An argument is not of this form.
    """
    spec = AdapterSpec(rank=2, alpha=4.0) if adapter is None else adapter
    subject = BackboneSubject(
        backbone, options, sampler, prompts, num_inference_steps, spec, tolerance, device, round_trip
    )
    return bind(BACKBONE_CONTRACTS, lambda: subject, skip)


def check_backbone(backbone: Any, **arguments: Any) -> Report:
    """Run every check of a backbone.

    Args:
        backbone: `Backbone` class, instance, or function without arguments that returns a new instance.
        **arguments: See `backbone_checks`.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(backbone, backbone_checks(backbone, **arguments))
