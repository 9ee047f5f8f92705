"""Prior of the focal length, before the clip is considered."""

from __future__ import annotations

import math
from dataclasses import dataclass

PRIOR_RATIO = 0.8
"""Focal length over image width of a typical video: phones 0.65 to 0.85, drones 0.65 to 0.75, indoor wide angles 0.45
to 0.6, camera conditioning of video models 0.5 to 1.2."""
PRIOR_DEVIATION = 0.4
"""Standard deviation of its logarithm: two thirds of all videos lie between 0.54 and 1.2."""
SYSTEMATIC_DEVIATION = 0.04
"""Addition to the standard deviation for lens distortion and the like, from five real clips of known focal length."""
DETERMINED = 0.15
"""Standard deviation of the logarithm up to which a focal length counts as determined by the clip."""


@dataclass(frozen=True, slots=True)
class FocalPrior:
    """A log-normal prior on the focal length.

    Attributes:
        focal: Its median, in pixels.
        deviation: Standard deviation of the logarithm.
    """

    focal: float
    deviation: float = PRIOR_DEVIATION

    @classmethod
    def of_width(cls, width: int) -> FocalPrior:
        """The prior for a video of that width in pixels."""
        return cls(PRIOR_RATIO * width)

    def terms(self, log_scale: float, start: float) -> tuple[float, float, float]:
        """Half the gradient, half the curvature and the value of the squared deviation from the median.

        Args:
            log_scale: Logarithm of the focal length over `start`.
            start: Focal length in pixels that scales refer to.
        """
        offset = log_scale + math.log(start / self.focal)
        return offset / self.deviation**2, 1 / self.deviation**2, (offset / self.deviation) ** 2

    @staticmethod
    def honest(deviation: float, track_length: float) -> float:
        """Standard deviation of the logarithm, from that of independent observations.

        The errors of one track are alike in all its frames, so a track counts once, and lens distortion, a rolling
        shutter and a scene that is not quite rigid shift the estimate whatever the number of tracks.

        Args:
            deviation: Of the normal equations, which take all observations for independent.
            track_length: Mean number of frames in which a point is observed.
        """
        return math.hypot(deviation * math.sqrt(track_length), SYSTEMATIC_DEVIATION)

    def combined(self, focal: float, deviation: float) -> float:
        """Focal length in pixels where an estimate of that deviation of the logarithm meets the prior."""
        if not math.isfinite(deviation):
            return self.focal
        trust = self.deviation**2 / (self.deviation**2 + deviation**2)
        return self.focal * (focal / self.focal) ** trust
