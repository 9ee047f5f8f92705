"""Components of worldr1-rewards: rewards, reconstructors, judges and the `score` command."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_rewards() -> dict[str, str]:
    """Rewards of the method, cheap rewards for small models, and metrics for evaluations."""
    return {
        "reconstruction": "worldr1_rewards.rewards.reconstruction:ReconstructionReward",
        "trajectory": "worldr1_rewards.rewards.trajectory:TrajectoryReward",
        "meta-view": "worldr1_rewards.rewards.meta_view:MetaViewReward",
        "preference": "worldr1_rewards.rewards.preference:PreferenceReward",
        "consistency": "worldr1_rewards.rewards.consistency:ConsistencyReward",
        "path-rerender": "worldr1_rewards.rewards.swept_rewards:PathRerenderReward",
        "camera-move-likelihood": "worldr1_rewards.rewards.swept_rewards:CameraMoveLikelihoodReward",
        "statistics-threshold": "worldr1_rewards.rewards.statistics_threshold:StatisticsThresholdReward",
        "statistics-vs-reference": "worldr1_rewards.rewards.statistics_vs_reference:StatisticsVsReferenceReward",
        "psnr": "worldr1_rewards.rewards.rerender_psnr:PSNRReward",
        "psnr-normalised": "worldr1_rewards.rewards.rerender_psnr:NormalisedPSNRReward",
        "ssim": "worldr1_rewards.rewards.rerender_similarity:SSIMReward",
        "lpips-similarity": "worldr1_rewards.rewards.rerender_similarity:LPIPSReward",
        "subject-consistency": "worldr1_rewards.rewards.frame_consistency:SubjectConsistencyReward",
        "background-consistency": "worldr1_rewards.rewards.frame_consistency:BackgroundConsistencyReward",
        "aesthetic-quality": "worldr1_rewards.rewards.aesthetic_quality:AestheticQualityReward",
        "imaging-quality": "worldr1_rewards.rewards.imaging_quality:ImagingQualityReward",
        "flow-smoothness": "worldr1_rewards.rewards.flow_smoothness:FlowSmoothnessReward",
        "vbench-package": "worldr1_rewards.rewards.vbench_package:VBenchPackageReward",
        "camera-errors": "worldr1_rewards.rewards.camera_errors:CameraErrorsReward",
        "camera-auc": "worldr1_rewards.rewards.camera_errors:CameraAUCReward",
        "camera-accuracy": "worldr1_rewards.rewards.camera_accuracy:CameraAccuracyReward",
        "mean-gradient": "worldr1_rewards.rewards.frame_statistics:MeanGradientReward",
        "gradient-x": "worldr1_rewards.rewards.frame_statistics:GradientXReward",
        "gradient-y": "worldr1_rewards.rewards.frame_statistics:GradientYReward",
        "typical-gradient-x": "worldr1_rewards.rewards.frame_statistics:TypicalGradientXReward",
        "typical-gradient-y": "worldr1_rewards.rewards.frame_statistics:TypicalGradientYReward",
        "row-variance": "worldr1_rewards.rewards.frame_statistics:RowVarianceReward",
        "column-variance": "worldr1_rewards.rewards.frame_statistics:ColumnVarianceReward",
        "sharpness-evenness": "worldr1_rewards.rewards.frame_statistics:SharpnessEvennessReward",
        "contrast": "worldr1_rewards.rewards.frame_statistics:ContrastReward",
        "motion": "worldr1_rewards.rewards.frame_statistics:MotionReward",
    }


@hookimpl
def worldr1_register_aliases() -> dict[str, dict[str, str]]:
    """Names that rewards had before they were renamed; each warns."""
    return {
        "reward": {
            "commanded-rerender": "path-rerender",
            "move-likelihood": "camera-move-likelihood",
            "statistics-floor": "statistics-threshold",
            "statistics-kept": "statistics-vs-reference",
        }
    }


@hookimpl
def worldr1_register_reconstructors() -> dict[str, str]:
    """The weights-free default, COLMAP, Depth Anything 3, and nerfstudio's models fitted with another one's cameras."""
    return {
        "auto": "worldr1_rewards.reconstructors.auto:AutoReconstructor",
        "direct": "worldr1_rewards.reconstructors.direct:DirectReconstructor",
        "colmap": "worldr1_rewards.reconstructors.colmap:ColmapReconstructor",
        "da3": "worldr1_rewards.reconstructors.da3:DA3Reconstructor",
        "nerfstudio": "worldr1_rewards.reconstructors.nerfstudio:NerfstudioReconstructor",
    }


@hookimpl
def worldr1_register_judges() -> dict[str, str]:
    """Vision-language models, local or behind an endpoint."""
    return {
        "transformers": "worldr1_rewards.judges.transformers_judge:TransformersJudge",
        "openai": "worldr1_rewards.judges.openai_judge:OpenAIJudge",
    }


@hookimpl
def worldr1_register_placements() -> dict[str, str]:
    """A server at an address, and a worker that the run starts."""
    return {
        "endpoint": "worldr1_rewards.serving.placements:EndpointPlacement",
        "worker": "worldr1_rewards.serving.placements:WorkerPlacement",
    }


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """`worldr1 score`, `worldr1 eval`, `worldr1 probe` and `worldr1 export-nerfstudio`."""
    return {
        "score": "worldr1_rewards.cli:score",
        "serve": "worldr1_rewards.cli_serve:serve",
        "eval": "worldr1_rewards.cli_eval:evaluate",
        "probe": "worldr1_rewards.cli_probe:probe",
        "export-nerfstudio": "worldr1_rewards.cli_export:export_nerfstudio",
    }
