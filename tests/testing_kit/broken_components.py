"""Parts of components that break promises of every kind, to mix into a component that keeps the others."""

from __future__ import annotations

from pydantic import Field, field_validator

from worldr1_core.component import ComponentConfig


class SwallowsOptions:
    """Ignores options that it does not know."""

    def __init__(self, config=None, *, device="cpu", **options):
        known = {name: options[name] for name in options if name in self.Config.model_fields}
        super().__init__(config, device=device, **known)


class CannotStart:
    """Raises in its constructor."""

    def __init__(self, config=None, *, device="cpu", **options):
        raise RuntimeError("no start")


class Unpicklable:
    """Holds a function that has no name."""

    def __init__(self, config=None, *, device="cpu", **options):
        super().__init__(config, device=device, **options)
        self.rule = lambda value: value


class UndescribedConfig(ComponentConfig):
    bias: float = Field(0.0, ge=0, le=1)


class UnboundedConfig(ComponentConfig):
    bias: float = Field(0.0, ge=0, description="Has no upper bound.")


class GrowingConfig(ComponentConfig):
    growing: float = Field(1.0, ge=0, le=10, description="Grows on its way.")

    @field_validator("growing")
    @classmethod
    def _grow(cls, growing):
        return growing + 1
