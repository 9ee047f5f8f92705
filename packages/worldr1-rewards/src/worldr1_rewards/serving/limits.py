"""Limits on requests, checked on sizes that a request declares, before memory is taken for them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MIB = 2**20


class Limits(BaseModel):
    """Largest request that a server accepts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(default=1024 * MIB, ge=1024, description="Bytes of a request's body.")
    header_bytes: int = Field(
        default=4 * MIB, ge=256, description="Bytes of the description at the beginning of a body."
    )
    clips: int = Field(default=64, ge=1, description="Clips per request, or questions to the judge.")
    frames: int = Field(default=1024, ge=1, description="Frames per video, or images per question.")
    pixels: int = Field(default=4096 * 2304, ge=1, description="Height times width of a frame.")
    decoded_bytes: int = Field(
        default=4096 * MIB,
        ge=1024,
        description="Bytes of the float32 frames of all videos or images of a request, references included.",
    )
