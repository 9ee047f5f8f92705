"""The reward `sharpness` of World-R1: a model that is paid for 3D consistency alone learns that blur is consistent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from worldr1_core import hookimpl
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score

if TYPE_CHECKING:  # torch is not imported when the plugin registers
    from worldr1_core.clip import Clip


class SharpnessReward(Reward):
    """Contrast of fine detail over all contrast, mean over the frames, in [0, 1].

    Blur lowers it; brightness and contrast leave it alone. Noise counts as detail.
    """

    class Config(ComponentConfig):
        """Options of `sharpness` in a manifest."""

        radius: int = Field(1, ge=1, le=16, description="Detail finer than this many pixels counts.")

    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip; the blurriest frame stands in the details."""
        from torch.nn.functional import avg_pool2d

        frames, radius = clip.video.frames.to(self.device), self.config.radius
        contrast = frames.flatten(1).std(dim=1, correction=0)
        if float(contrast.min()) < 1e-3:
            raise ScoreUnavailable(f"frame {int(contrast.argmin())} has no contrast")
        blurred = avg_pool2d(frames, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
        ratio = ((frames - blurred).flatten(1).std(dim=1, correction=0) / contrast).clamp(max=1)
        return Score(float(ratio.mean()), details={"blurriest_frame": int(ratio.argmin())})


@hookimpl
def worldr1_register_rewards() -> dict[str, str]:
    """Name in manifests -> where the class lives."""
    return {"sharpness": "worldr1_sharpness:SharpnessReward"}
