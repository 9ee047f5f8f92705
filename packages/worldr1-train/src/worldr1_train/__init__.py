"""Post-train text-to-video models with rewards (Flow-GRPO).

Public names are imported on first use: importing this package loads neither torch nor trl.
"""

from typing import TYPE_CHECKING

from worldr1_core.lazy import lazy_exports

if TYPE_CHECKING:
    from worldr1_train.config import FlowGRPOConfig as FlowGRPOConfig
    from worldr1_train.evaluation import Evaluation as Evaluation
    from worldr1_train.stages import Stage as Stage
    from worldr1_train.trainer import FlowGRPOTrainer as FlowGRPOTrainer

__version__ = "0.1.0"

__all__ = ["Evaluation", "FlowGRPOConfig", "FlowGRPOTrainer", "Stage", "__version__"]

_EXPORTS = {
    "Evaluation": "worldr1_train.evaluation",
    "FlowGRPOConfig": "worldr1_train.config",
    "FlowGRPOTrainer": "worldr1_train.trainer",
    "Stage": "worldr1_train.stages",
}

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
