"""The conformance kit for reconstructors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldr1_core.testing.reconstructor_contracts import RECONSTRUCTOR_CONTRACTS, ReconstructorSubject
from worldr1_core.testing.report import Check, Report, bind, report_on


def reconstructor_checks(
    reconstructor: Any,
    *,
    options: Mapping[str, Any] | None = None,
    size: tuple[int, int] = (64, 80),
    num_frames: int = 9,
    max_rotation_error: float = 2.0,
    max_path_error: float = 0.2,
    min_psnr: float = 22.0,
    skip: Mapping[str, str] | None = None,
    device: str = "cuda",
) -> list[Check[ReconstructorSubject]]:
    """List the checks of a reconstructor, for `@pytest.mark.parametrize("check", …, ids=str)`.

    Args:
        reconstructor: `Reconstructor` class, instance, or function without arguments that returns an instance.
        options: Fields of its `Config`, where a class is given.
        size: (H, W) of the standard clip in pixels.
        num_frames: T of the standard clip, >= 3.
        max_rotation_error: Largest angle in degrees between a found and a true orientation.
        max_path_error: Largest distance of a found camera centre from the true one, over the path's extent, after the
            best common scale.
        min_psnr: Least PSNR in dB of the rendered clip where it is covered.
        skip: Check name -> why it does not hold for this reconstructor.
        device: A second device, beside the CPU.

    Raises:
        UserError: An argument is not of this form.
    """
    subject = ReconstructorSubject(
        reconstructor, options, size, num_frames, max_rotation_error, max_path_error, min_psnr, device
    )
    return bind(RECONSTRUCTOR_CONTRACTS, lambda: subject, skip)


def check_reconstructor(reconstructor: Any, **arguments: Any) -> Report:
    """Run every check of a reconstructor.

    Args:
        reconstructor: `Reconstructor` class, instance, or function without arguments that returns an instance.
        **arguments: See `reconstructor_checks`.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(reconstructor, reconstructor_checks(reconstructor, **arguments))
