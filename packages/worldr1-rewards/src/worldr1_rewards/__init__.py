"""Score videos for 3D consistency and camera obedience.

Public names are imported on first use: importing this package loads neither torch nor any model.
"""

from typing import TYPE_CHECKING

from worldr1_core.lazy import lazy_exports

if TYPE_CHECKING:
    from worldr1_rewards.evaluation.api import evaluate as evaluate
    from worldr1_rewards.evaluation.result import EvalResult as EvalResult
    from worldr1_rewards.rewards.meta_view import MetaViewReward as MetaViewReward
    from worldr1_rewards.rewards.preference import PreferenceReward as PreferenceReward
    from worldr1_rewards.rewards.reconstruction import ReconstructionReward as ReconstructionReward
    from worldr1_rewards.rewards.trajectory import TrajectoryReward as TrajectoryReward
    from worldr1_rewards.scoring import Scorer as Scorer
    from worldr1_rewards.trl_rewards import as_trl_reward as as_trl_reward

__version__ = "0.1.0"

__all__ = [
    "EvalResult",
    "MetaViewReward",
    "PreferenceReward",
    "ReconstructionReward",
    "Scorer",
    "TrajectoryReward",
    "__version__",
    "as_trl_reward",
    "evaluate",
]

_EXPORTS = {
    "EvalResult": "worldr1_rewards.evaluation.result",
    "MetaViewReward": "worldr1_rewards.rewards.meta_view",
    "PreferenceReward": "worldr1_rewards.rewards.preference",
    "ReconstructionReward": "worldr1_rewards.rewards.reconstruction",
    "Scorer": "worldr1_rewards.scoring",
    "TrajectoryReward": "worldr1_rewards.rewards.trajectory",
    "as_trl_reward": "worldr1_rewards.trl_rewards",
    "evaluate": "worldr1_rewards.evaluation.api",
}

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
