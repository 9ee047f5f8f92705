"""The components that make videos, composed from a manifest or chosen in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from worldr1_core.backbone import Backbone
from worldr1_core.component import Component
from worldr1_core.component_specs import component_spec
from worldr1_core.compose import build
from worldr1_core.errors import ManifestError, UserError, shorten, with_article
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.manifest import ComponentSpec, Manifest
from worldr1_core.noise import NoiseConditioner
from worldr1_core.pipeline import VideoPipeline, call_directly
from worldr1_core.registry import Registry
from worldr1_core.sampler import Sampler

C = TypeVar("C", bound=Component)

NUM_INFERENCE_STEPS = 50
"""Steps of the schedule if no sampler states them (paper, section 3)."""


@dataclass(frozen=True, slots=True)
class GenerationComponents:
    """Components that make videos.

    Attributes:
        backbone: Text-to-video model.
        sampler: Makes the policy scheduler; without one, the backbone's own scheduler samples.
        conditioner: Draws the initial noise; plain Gaussian noise if left out.
    """

    backbone: Backbone
    sampler: Sampler | None = None
    conditioner: NoiseConditioner = field(default_factory=GaussianNoise)

    @property
    def num_inference_steps(self) -> int:
        """Steps of the full schedule."""
        return NUM_INFERENCE_STEPS if self.sampler is None else self.sampler.config.num_inference_steps

    def make_pipeline(
        self, *, num_inference_steps: int | None = None, call: Callable[..., Any] = call_directly
    ) -> VideoPipeline:
        """A pipeline with a policy scheduler of its own.

        Args:
            num_inference_steps: Instead of the sampler's.
            call: See `VideoPipeline.call`.

        Raises:
            UserError: The sampler is for another family of models than the backbone.
        """
        return VideoPipeline(
            backbone=self.backbone,
            num_inference_steps=num_inference_steps or self.num_inference_steps,
            scheduler=None if self.sampler is None else self.sampler.make_scheduler(self.backbone.base_scheduler),
            conditioner=self.conditioner,
            call=call,
        )


def compose_generation(manifest: Manifest, registry: Registry, device: str) -> GenerationComponents:
    """Build the backbone, noise conditioner and sampler of a manifest.

    Args:
        manifest: Names `backbone`, and may name `noise` (else plain Gaussian noise) and `sampler`.
        registry: Where names are looked up.
        device: Torch device of the components.

    Raises:
        ManifestError: The manifest names no backbone.
        UserError: A component cannot be built.
    """
    if manifest.backbone is None:
        raise ManifestError(
            "Making videos needs a backbone, and the manifest names none. "
            f"Add `backbone: {{name: …}}`; installed: {registry.names('backbone')}."
        )
    sampler = manifest.sampler
    return GenerationComponents(
        backbone=build(manifest.backbone, "backbone", Backbone, registry, device),
        sampler=None if sampler is None else build(sampler, "sampler", Sampler, registry, device),
        conditioner=build_conditioner(manifest.noise, registry, device),
    )


def build_conditioner(spec: ComponentSpec | None, registry: Registry, device: str) -> NoiseConditioner:
    """The noise conditioner of a spec; plain Gaussian noise without one."""
    if spec is None:
        return GaussianNoise(device=device)
    return build(spec, "noise conditioner", NoiseConditioner, registry, device)


def choose_component(choice: Any, kind: str, interface: type[C], registry: Registry, device: str) -> C:
    """A component given in any form.

    Args:
        choice: A registered name, a mapping with `name` and options, a class, or an object, which is taken as it is.
        kind: Its kind in the registry.
        interface: The class that it must derive from.
        registry: Where names are looked up.
        device: Torch device of a component that is built here.

    Raises:
        UserError: It has none of these forms, or cannot be built.
    """
    if isinstance(choice, interface):
        return choice
    if isinstance(choice, type) and issubclass(choice, interface):
        return choice(device=device)
    if isinstance(choice, str | Mapping | ComponentSpec):
        return build(component_spec(choice, kind, registry), kind, interface, registry, device)
    raise UserError(
        f"{with_article(kind).capitalize()} must be a registered name ({registry.names(kind)}), a mapping with 'name' "
        f"and options, or a class or object derived from {interface.__name__}; received {shorten(choice)}."
    )
