"""Creation of the trainer's components from names, mappings, classes or objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.backbone_choice import backbone_spec
from worldr1_core.camera import detect_moves
from worldr1_core.component import describe_validation_error
from worldr1_core.compose import ScoringComponents, compose_scoring
from worldr1_core.errors import TrajectoryError, UnknownNameError, UserError, shorten
from worldr1_core.frame_scoring import FrameScorer
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.generation_components import GenerationComponents, choose_component
from worldr1_core.judge import Judge
from worldr1_core.manifest import ComponentSpec, Manifest
from worldr1_core.manifest_forms import ManifestLike, is_manifest, read_manifest
from worldr1_core.noise import NoiseConditioner
from worldr1_core.pipeline import VideoRequest, commanded_path
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.registry import Registry
from worldr1_core.reward_choice import RewardChoice, RewardLike, choose_rewards
from worldr1_core.sampler import Sampler
from worldr1_core.scoring import ScoringEngine
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.diffusers_files import read_json
from worldr1_train.metric_choice import choose_metrics
from worldr1_train.objective_checks import STATISTICS, check_sizes
from worldr1_train.objective_choice import ObjectiveChoice, ObjectivesLike, choose_objectives
from worldr1_train.prompts import MAIN, PromptsLike, choose_prompts, evaluation_prompts, read_prompts_of
from worldr1_train.section import AdapterSection, EvaluationSection, StageSection
from worldr1_train.stage_rewards import check_stage_rewards, stage_rewards
from worldr1_train.stages import Stage, WeightedObjective

S = TypeVar("S", bound=BaseModel)

DEFAULT_SAMPLER: Mapping[str, Any] = {"name": "flow-sde", "num_inference_steps": 20}
"""Sampler if none is given, for flow models; diffusion models need another one."""

DEFAULT_RECONSTRUCTOR = "auto"
"""Reconstructor for rewards given in Python, if it is installed; a manifest names its own."""

ComponentLike = str | Mapping[str, Any] | ComponentSpec
"""A registered name, or a mapping with `name` and options."""

RewardsLike = RewardLike | Iterable[RewardLike] | ManifestLike

EvaluationLike = EvaluationSection | Mapping[str, Any] | PromptsLike
"""Settings of an evaluation as in a manifest, or only its prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChoices:
    """Arguments of `FlowGRPOTrainer`, in any form that it accepts; see there."""

    backbone: ComponentLike | Backbone | type[Backbone]
    rewards: RewardsLike | None = None
    prompts: PromptsLike | Mapping[str, PromptsLike] | None = None
    sampler: ComponentLike | Sampler | type[Sampler] | None = None
    noise: ComponentLike | NoiseConditioner | type[NoiseConditioner] | None = None
    stages: Sequence[Stage | StageSection | Mapping[str, Any]] | None = None
    adapter: AdapterSpec | AdapterSection | Mapping[str, Any] | bool = True
    evaluation: EvaluationLike | None = None
    reconstructor: str | Reconstructor | None = None
    judge: str | Judge | None = None
    objective: ObjectivesLike | None = None


@dataclass(frozen=True, slots=True)
class TrainingEvaluation:
    """Evaluation before, during and after training.

    Attributes:
        section: Settings.
        prompts: One prompt per video.
        scorer: Scores videos with the rewards that are used as metrics.
    """

    section: EvaluationSection
    prompts: list[str]
    scorer: ScoringEngine


@dataclass(frozen=True, slots=True)
class TrainingComponents:
    """Components of a training run.

    Attributes:
        generation: Backbone with its adapter, sampler, and the run's noise conditioner.
        stages: Stages of the training cycle.
        adapter: The adapter that was added; `None` if the model already had one, or every weight is trained.
        evaluation: Evaluation of the run; `None` if it is disabled.
    """

    generation: GenerationComponents
    stages: list[Stage]
    adapter: AdapterSpec | None
    evaluation: TrainingEvaluation | None


def compose_training(choices: TrainingChoices, args: FlowGRPOConfig, registry: Registry) -> TrainingComponents:
    """Create the components of a training run; no weights of the backbone are loaded before its rewards are ready.

    Args:
        choices: Arguments of the user.
        args: Training arguments: device, seed, options of the objective and length of the run.
        registry: Where names are looked up.

    Raises:
        UserError: An argument is given twice or missing, a component cannot be created, or the camera path of a prompt
            does not fit into a clip.
    """
    _check_given_once(choices)
    composer = _Composer(choices, args, registry)
    generation = composer.generation()
    stages = [composer.with_objectives(stage) for stage in choices.stages or [] if isinstance(stage, Stage)]
    evaluation = None
    if not stages:
        composer.check_commanded_paths(generation.backbone)
        scoring = composer.scoring()
        stages, evaluation = composer.stages(scoring, generation), composer.evaluation(scoring)
    assert generation.sampler is not None
    objectives = [weighted for stage in stages for weighted in stage.objectives]
    check_sizes(
        objectives,
        group_size=args.num_generations,
        micro_batch_size=args.per_device_train_batch_size,
        window=generation.sampler.config.window,
        num_inference_steps=generation.sampler.config.num_inference_steps,
    )
    if any(weighted.objective.plan.steps == "window" for weighted in objectives):
        generation.sampler.window(args.seed, 0)  # report an invalid window before weights are loaded
    return TrainingComponents(generation, stages, composer.add_adapter(generation.backbone), evaluation)


def training_device(args: FlowGRPOConfig) -> str:
    """Return the torch device of a run's components: `"cpu"`, or e.g. `"cuda:0"`."""
    return "cpu" if args.device.type == "cpu" else str(args.device)  # "cpu:0" under torchrun


def _check_given_once(choices: TrainingChoices) -> None:
    stages = choices.stages or []
    objects = [isinstance(stage, Stage) for stage in stages]
    if any(objects):
        if not all(objects):
            raise UserError(
                "stages must be either all Stage objects or all settings as in a manifest; received both. Use one form."
            )
        for name in ("rewards", "prompts", "noise", "evaluation"):
            if getattr(choices, name) is not None:
                raise UserError(
                    f"{name} cannot be given together with Stage objects in stages. Remove {name}, or give stages as "
                    "settings."
                )
        return
    for name, example in (("rewards", '["reconstruction", "trajectory"]'), ("prompts", '["Camera push in. A room."]')):
        if getattr(choices, name) is None:
            raise UserError(f"Training needs {name}, received None. Pass {name}={example}.")


class _Composer:
    """Creates each component of a run once.

    Args:
        choices: Arguments of the user.
        args: Training arguments.
        registry: Where names are looked up.
    """

    def __init__(self, choices: TrainingChoices, args: FlowGRPOConfig, registry: Registry) -> None:
        self._given, self._args, self._registry = choices, args, registry
        self._device = training_device(args)
        self._manifest, self._rewards = self._choose_rewards()
        self._run_objectives: tuple[WeightedObjective, ...] = ()
        self._scoring = ScoringComponents([], None, None)
        self._prompts = {} if choices.prompts is None else choose_prompts(choices.prompts)
        self._evaluation = self._choose_evaluation()
        self._metrics = choose_metrics(self._rewards, self._evaluation, registry)

    def generation(self) -> GenerationComponents:
        """Create backbone (without an adapter), sampler and noise conditioner."""
        given, registry, device = self._given, self._registry, self._device
        backbone: Any = given.backbone
        if isinstance(backbone, str):
            backbone = backbone_spec(backbone, registry, read_json=read_json)
        sampler = DEFAULT_SAMPLER if given.sampler is None else given.sampler
        return GenerationComponents(
            choose_component(backbone, "backbone", Backbone, registry, device),
            choose_component(sampler, "sampler", Sampler, registry, device),
            GaussianNoise(device=device) if given.noise is None else self._conditioner(given.noise),
        )

    def scoring(self) -> ScoringComponents:
        """Create all rewards of the run and all metrics of its evaluation."""
        names = {choice.name for choice in self._rewards}
        rewards: list[Any] = [(choice.source, choice.weight) for choice in self._rewards]
        self._scoring = self._compose([*rewards, *(name for name in self._metrics if name not in names)])
        return self._scoring

    def _compose(self, rewards: list[Any]) -> ScoringComponents:
        """Create rewards, and what they require unless the run has it already."""
        return compose_scoring(
            self._manifest,
            self._registry,
            only=rewards,
            reconstructor=self._scoring.reconstructor or self._given.reconstructor,
            judge=self._scoring.judge or self._given.judge,
            device=self._device,
        )

    def stages(self, scoring: ScoringComponents, generation: GenerationComponents) -> list[Stage]:
        """Create the stages of the training cycle."""
        sections = [_section(StageSection, given, "A stage") for given in self._given.stages or [self._whole_run()]]
        return [self._stage(index, section, scoring, generation) for index, section in enumerate(sections)]

    def with_objectives(self, stage: Stage) -> Stage:
        """Return a stage with the objectives of the run if it has none, and with a frame scorer if they need one."""
        objectives = stage.objectives or self._objectives()
        scorer = stage.frame_scorer
        if scorer is None and not all(weighted.objective.plan.scored for weighted in objectives):
            if not isinstance(stage.scorer, ScoringEngine):
                raise UserError(
                    f"Stage {stage.name!r} has an objective that needs the gradients of rewards, but its frame_scorer "
                    "is None. Pass frame_scorer=FrameScorer(...) to the Stage."
                )
            scorer = _frame_scorer(stage.scorer.components, objectives)
        return replace(stage, objectives=objectives, frame_scorer=scorer)

    def evaluation(self, scoring: ScoringComponents) -> TrainingEvaluation | None:
        """Create prompts and metrics of the evaluation."""
        if self._evaluation is None:
            return None
        prompts = evaluation_prompts(self._evaluation, self._split(self._evaluation.prompts))
        return TrainingEvaluation(self._evaluation, prompts, ScoringEngine(scoring.subset(self._metrics)))

    def add_adapter(self, backbone: Backbone) -> AdapterSpec | None:
        """Add the adapter to the backbone, if one is to be added, and return its specification."""
        given = self._given.adapter
        if given is True:
            is_object = isinstance(self._given.backbone, Backbone)
            if self._args.full_finetuning or (is_object and _has_adapter(backbone)):
                return None
            given = {}
        if given is False:
            return None
        spec = given if isinstance(given, AdapterSpec) else self._adapter_spec(given)
        backbone.add_adapter(spec)
        return spec

    def check_commanded_paths(self, backbone: Backbone) -> None:
        """Check that the camera moves of every prompt fit into a clip of the backbone; equal moves are checked once."""
        checked = set()
        for split, prompts in self._prompts.items():
            for prompt in prompts:
                moves = tuple(detect_moves(prompt))
                if moves in checked:
                    continue
                checked.add(moves)
                try:
                    commanded_path(VideoRequest(prompt), backbone.geometry)
                except TrajectoryError as error:
                    raise UserError(f"Prompt {prompt!r} of {split!r} cannot be used: {error}") from error

    def _choose_rewards(self) -> tuple[Manifest, list[RewardChoice]]:
        """Return the rewards, and the manifest that names the reconstructor and judge they require."""
        rewards: Any = self._given.rewards
        if is_manifest(rewards):
            manifest = read_manifest(rewards, self._registry)
            return manifest, choose_rewards(manifest.rewards, manifest.rewards, self._registry)
        has_default = self._registry.has("reconstructor", DEFAULT_RECONSTRUCTOR)
        default = {"reconstructor": {"name": DEFAULT_RECONSTRUCTOR}} if has_default else {}
        return Manifest.model_validate({"version": 1, **default}), choose_rewards(rewards or [], [], self._registry)

    def _choose_evaluation(self) -> EvaluationSection | None:
        given = self._given.evaluation
        if given is None:
            return None
        if isinstance(given, EvaluationSection | Mapping):
            return _section(EvaluationSection, given, "The evaluation")
        section = EvaluationSection()
        if section.prompts in self._prompts:
            raise UserError(
                "The prompts of the evaluation are given twice: as evaluation, and as the split "
                f"{section.prompts!r} of prompts. Remove one of them."
            )
        self._prompts[section.prompts] = read_prompts_of(given, section.prompts)
        return section

    def _conditioner(self, given: Any) -> NoiseConditioner:
        return choose_component(given, "noise conditioner", NoiseConditioner, self._registry, self._device)

    def _split(self, name: str) -> list[str]:
        if name not in self._prompts:
            raise UserError(
                f"Unknown prompt split {name!r}. Given splits: {sorted(self._prompts)}. Pass prompts={{{name!r}: "
                "[...], ...}."
            )
        return self._prompts[name]

    def _whole_run(self) -> StageSection:
        """Return one stage of `max_steps` steps, or of `num_train_epochs` passes over the prompts."""
        args, updates = self._args, self._args.updates_per_rollout_batch
        if args.max_steps > 0:
            return StageSection(steps=math.ceil(args.max_steps / updates) * updates)
        batches = math.ceil(args.num_train_epochs * len(self._split(MAIN)) / args.prompts_per_rollout_batch)
        return StageSection(steps=max(1, batches) * updates)

    def _stage(
        self, index: int, section: StageSection, scoring: ScoringComponents, generation: GenerationComponents
    ) -> Stage:
        weights = {choice.name: choice.weight for choice in self._rewards}
        names = stage_rewards(section, weights, self._registry)
        check_stage_rewards(f"stages.{index}", names, weights, "this run")
        chosen = scoring.subset(names)
        objectives = self._objectives(section.objective)
        return Stage(
            name=f"{index}:{section.prompts}",
            steps=section.steps,
            split=section.prompts,
            prompts=self._split(section.prompts),
            scorer=ScoringEngine(chosen),
            weights={reward.name: reward.weight for reward in chosen.rewards if reward.weight > 0},
            conditioner=self._stage_conditioner(section, generation),
            objectives=objectives,
            frame_scorer=_frame_scorer(chosen, objectives),
        )

    def _objectives(self, given: ObjectivesLike | None = None) -> tuple[WeightedObjective, ...]:
        """Create the objectives of a stage. Stages without their own share the objects of the run."""
        if given is None and self._run_objectives:
            return self._run_objectives
        chosen = choose_objectives(
            self._given.objective if given is None else given, self._args, self._registry, self._device
        )
        weighted = tuple(
            WeightedObjective(choice.objective, choice.weight, self._statistics(choice), choice.name)
            for choice in chosen
        )
        if given is None:
            self._run_objectives = weighted
        return weighted

    def _statistics(self, choice: ObjectiveChoice) -> FrameScorer | None:
        """Create the scorer of the rewards that an objective measures; the rewards of the run are used again."""
        names = choice.objective.statistics
        if not names:
            return None
        what = f"Objective {choice.name!r} (statistics {list(names)})"
        own = self._scoring.subset(names)
        missing = [(name, 1.0) for name in names if name not in {reward.name for reward in own.rewards}]
        try:
            new = self._compose(missing) if missing else ScoringComponents([], None, None)
        except UnknownNameError as error:
            raise UserError(f"{what}: {error}") from error
        rewards = [*(replace(reward, weight=1.0) for reward in own.rewards), *new.rewards]
        components = ScoringComponents(rewards, own.reconstructor or new.reconstructor, own.judge or new.judge)
        return FrameScorer(
            components,
            purpose=what,
            remedy=STATISTICS,
        )

    def _stage_conditioner(self, section: StageSection, generation: GenerationComponents) -> NoiseConditioner:
        """Return the stage's own conditioner, the run's if `noise` is true, or plain Gaussian noise if it is false."""
        if isinstance(section.noise, ComponentSpec):
            return self._conditioner(section.noise)
        return generation.conditioner if section.noise else GaussianNoise()

    def _adapter_spec(self, given: AdapterSection | Mapping[str, Any]) -> AdapterSpec:
        section = _section(AdapterSection, given, "The adapter")
        targets = None if section.target_modules is None else tuple(section.target_modules)
        return AdapterSpec(section.rank, section.alpha, target_modules=targets, seed=self._args.seed)


def _frame_scorer(components: ScoringComponents, objectives: Sequence[WeightedObjective]) -> FrameScorer | None:
    """Create the scorer for the objectives of a stage that differentiate rewards; `None` if none does."""
    names = [weighted.name for weighted in objectives if not weighted.objective.plan.scored]
    return FrameScorer(components, purpose=f"Objective {' and '.join(map(repr, names))}") if names else None


def _has_adapter(backbone: Backbone) -> bool:
    """Whether only some of a model's parameters require gradients."""
    trained = {parameter.requires_grad for module in backbone.denoisers.values() for parameter in module.parameters()}
    return len(trained) > 1


def _section(model: type[S], given: Any, what: str) -> S:
    """Validate settings given as an object or as a mapping."""
    if isinstance(given, model):
        return given
    if not isinstance(given, Mapping):
        raise UserError(f"{what} must be a mapping with {sorted(model.model_fields)}, received {shorten(given)}.")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        issues = describe_validation_error(error, model)
        raise UserError(f"{what} is invalid: {issues}") from error
