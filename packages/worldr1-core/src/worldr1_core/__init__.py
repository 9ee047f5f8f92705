"""Plugin host, interfaces, camera maths, manifest and command line of World-R1.

Public names are imported on first use: importing this package loads neither torch nor any plugin, so that
`worldr1 --help` answers at once.
"""

from typing import TYPE_CHECKING

from worldr1_core.hookspecs import hookimpl
from worldr1_core.lazy import lazy_exports

if TYPE_CHECKING:
    from worldr1_core.backbone import Backbone as Backbone
    from worldr1_core.camera.formats import load_trajectory as load_trajectory
    from worldr1_core.camera.formats import save_trajectory as save_trajectory
    from worldr1_core.camera.trajectory import CameraTrajectory as CameraTrajectory
    from worldr1_core.camera.vocabulary import detect_moves as detect_moves
    from worldr1_core.camera.vocabulary import trajectory_from_prompt as trajectory_from_prompt
    from worldr1_core.clip import Clip as Clip
    from worldr1_core.component import ComponentConfig as ComponentConfig
    from worldr1_core.errors import ScoreNotApplicable as ScoreNotApplicable
    from worldr1_core.errors import ScoreUnavailable as ScoreUnavailable
    from worldr1_core.errors import UserError as UserError
    from worldr1_core.errors import WorldR1Error as WorldR1Error
    from worldr1_core.judge import Judge as Judge
    from worldr1_core.judge import JudgeRequest as JudgeRequest
    from worldr1_core.judge import JudgeResult as JudgeResult
    from worldr1_core.noise import NoiseConditioner as NoiseConditioner
    from worldr1_core.objective import AdvantageOptions as AdvantageOptions
    from worldr1_core.objective import Denoised as Denoised
    from worldr1_core.objective import Objective as Objective
    from worldr1_core.objective import Policy as Policy
    from worldr1_core.objective import RolloutPlan as RolloutPlan
    from worldr1_core.objective import UpdateBatch as UpdateBatch
    from worldr1_core.policy_step import PolicyStep as PolicyStep
    from worldr1_core.policy_step import SchedulePoint as SchedulePoint
    from worldr1_core.reconstructor import Reconstruction as Reconstruction
    from worldr1_core.reconstructor import Reconstructor as Reconstructor
    from worldr1_core.reconstructor import Render as Render
    from worldr1_core.registry import register as register
    from worldr1_core.registry import unregister as unregister
    from worldr1_core.reward import BatchReward as BatchReward
    from worldr1_core.reward import Requirement as Requirement
    from worldr1_core.reward import Reward as Reward
    from worldr1_core.reward import RewardInputs as RewardInputs
    from worldr1_core.reward import Score as Score
    from worldr1_core.reward import scatter_scores as scatter_scores
    from worldr1_core.reward import score_each as score_each
    from worldr1_core.reward_function import FunctionReward as FunctionReward
    from worldr1_core.sampler import Sampler as Sampler
    from worldr1_core.scoring import ClipScores as ClipScores
    from worldr1_core.video import Video as Video
    from worldr1_core.video_io import read_video as read_video
    from worldr1_core.video_io import write_video as write_video

__version__ = "0.1.0"

__all__ = [
    "AdvantageOptions",
    "Backbone",
    "BatchReward",
    "CameraTrajectory",
    "Clip",
    "ClipScores",
    "ComponentConfig",
    "Denoised",
    "FunctionReward",
    "Judge",
    "JudgeRequest",
    "JudgeResult",
    "NoiseConditioner",
    "Objective",
    "Policy",
    "PolicyStep",
    "Reconstruction",
    "Reconstructor",
    "Render",
    "Requirement",
    "Reward",
    "RewardInputs",
    "RolloutPlan",
    "Sampler",
    "SchedulePoint",
    "Score",
    "ScoreNotApplicable",
    "ScoreUnavailable",
    "UpdateBatch",
    "UserError",
    "Video",
    "WorldR1Error",
    "__version__",
    "detect_moves",
    "hookimpl",
    "load_trajectory",
    "read_video",
    "register",
    "save_trajectory",
    "scatter_scores",
    "score_each",
    "trajectory_from_prompt",
    "unregister",
    "write_video",
]

_EXPORTS = {
    "AdvantageOptions": "worldr1_core.objective",
    "Backbone": "worldr1_core.backbone",
    "BatchReward": "worldr1_core.reward",
    "CameraTrajectory": "worldr1_core.camera.trajectory",
    "Clip": "worldr1_core.clip",
    "ClipScores": "worldr1_core.scoring",
    "ComponentConfig": "worldr1_core.component",
    "Denoised": "worldr1_core.objective",
    "FunctionReward": "worldr1_core.reward_function",
    "Judge": "worldr1_core.judge",
    "JudgeRequest": "worldr1_core.judge",
    "JudgeResult": "worldr1_core.judge",
    "NoiseConditioner": "worldr1_core.noise",
    "Objective": "worldr1_core.objective",
    "Policy": "worldr1_core.objective",
    "PolicyStep": "worldr1_core.policy_step",
    "Reconstruction": "worldr1_core.reconstructor",
    "Reconstructor": "worldr1_core.reconstructor",
    "Render": "worldr1_core.reconstructor",
    "Requirement": "worldr1_core.reward",
    "Reward": "worldr1_core.reward",
    "RewardInputs": "worldr1_core.reward",
    "RolloutPlan": "worldr1_core.objective",
    "Sampler": "worldr1_core.sampler",
    "SchedulePoint": "worldr1_core.policy_step",
    "Score": "worldr1_core.reward",
    "ScoreNotApplicable": "worldr1_core.errors",
    "ScoreUnavailable": "worldr1_core.errors",
    "UpdateBatch": "worldr1_core.objective",
    "UserError": "worldr1_core.errors",
    "Video": "worldr1_core.video",
    "WorldR1Error": "worldr1_core.errors",
    "detect_moves": "worldr1_core.camera.vocabulary",
    "load_trajectory": "worldr1_core.camera.formats",
    "read_video": "worldr1_core.video_io",
    "register": "worldr1_core.registry",
    "save_trajectory": "worldr1_core.camera.formats",
    "scatter_scores": "worldr1_core.reward",
    "score_each": "worldr1_core.reward",
    "trajectory_from_prompt": "worldr1_core.camera.vocabulary",
    "unregister": "worldr1_core.registry",
    "write_video": "worldr1_core.video_io",
}

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
