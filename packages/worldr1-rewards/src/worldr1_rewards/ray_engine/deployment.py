"""The application that Ray Serve runs, from the command line or from a configuration file of Ray Serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worldr1_core.component import describe_validation_error, validate_document
from worldr1_core.errors import UserError
from worldr1_core.manifest import load_manifest, read_manifest_text
from worldr1_core.plugins import installed
from worldr1_rewards.ray_engine.cluster import require_ray
from worldr1_rewards.ray_engine.replica import Replica, ReplicaSettings, current_app
from worldr1_rewards.serving.limits import MIB, Limits
from worldr1_rewards.serving.served import choose_served
from worldr1_rewards.serving.service import ServiceSettings
from worldr1_rewards.serving.tokens import read_token

NAME = "worldr1"
"""Name of the application and of its deployment in Ray Serve."""
_QUEUED = 4
"""Requests beyond those that a replica admits which Ray still passes to it, so that it answers them with 429 itself."""
_MAX_CONSTRUCTIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many replicas there are.

    Attributes:
        min_replicas: Replicas that always run.
        max_replicas: Replicas at the highest load.
        target_requests: Requests under way per replica above which further replicas are started.
        cpus: Logical CPUs that a replica reserves.
        gpus: GPUs that a replica reserves; `None` for 1 if the cluster has GPUs, else 0.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    target_requests: float = 4.0
    cpus: float = 1.0
    gpus: float | None = None

    def check(self) -> None:
        """Refuse bounds that contradict each other.

        Raises:
            UserError: There are more least than most replicas.
        """
        if self.min_replicas > self.max_replicas:
            raise UserError(
                f"There are at least {self.min_replicas} replicas and at most {self.max_replicas}. Raise the maximum."
            )


def make_application(settings: ServiceSettings, token: str | None, scale: Scale, drain_seconds: float) -> Any:
    """Make the application of Ray Serve.

    Args:
        settings: What is served, with the limits of every replica.
        token: Token that requests must bring, or `None`.
        scale: Replicas.
        drain_seconds: Time of a replica to finish its requests when it is stopped.

    Raises:
        UserError: The manifest cannot be used, or the settings contradict each other.
    """
    scale.check()
    registry = installed().registry
    choose_served(load_manifest(settings.manifest, registry), settings.rewards, registry, judge=settings.judge)
    ray = require_ray()
    from ray import serve

    gpus = scale.gpus if scale.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
    replica_settings = ReplicaSettings(settings, read_manifest_text(settings.manifest), token)
    deployment: Any = serve.deployment(
        serve.ingress(current_app)(Replica),
        name=NAME,
        max_ongoing_requests=settings.max_requests + _QUEUED,
        autoscaling_config={
            "min_replicas": scale.min_replicas,
            "max_replicas": scale.max_replicas,
            "target_ongoing_requests": scale.target_requests,
        },
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": gpus},
        graceful_shutdown_timeout_s=drain_seconds,
        max_constructor_retry_count=_MAX_CONSTRUCTIONS,
    )
    return deployment.bind(replica_settings)


class ApplicationArgs(BaseModel):
    """Arguments of `build` in a configuration file of Ray Serve (`args:`)."""

    model_config = ConfigDict(extra="forbid")

    manifest: Path = Field(description="Manifest file, on the head node.")
    rewards: list[str] | None = Field(default=None, description="Rewards to serve; all of the manifest by default.")
    judge: bool = Field(default=False, description="Serve the judge, and only the rewards of `rewards`.")
    ask_judge: bool = Field(default=False, description="Rewards ask the judge at its `placement`.")
    token_env: str | None = Field(default=None, description="Environment variable with the token, on the head node.")
    devices: list[str | None] = Field(default=[None], min_length=1, description="Device of each worker of a replica.")
    min_replicas: int = Field(default=1, ge=1, description="Replicas that always run.")
    max_replicas: int = Field(default=1, ge=1, description="Replicas at the highest load.")
    target_requests: float = Field(default=4.0, gt=0, description="Requests under way per replica to aim for.")
    cpus_per_replica: float = Field(default=1.0, ge=0, description="Logical CPUs that a replica reserves.")
    gpus_per_replica: float | None = Field(
        default=None, ge=0, description="GPUs that a replica reserves; by default 1 if the cluster has some."
    )
    max_requests: int = Field(default=64, ge=1, description="Requests that a replica admits at once.")
    max_batch_clips: int = Field(default=8, ge=1, description="Clips of several requests that are scored together.")
    max_body_mib: int = Field(default=1024, ge=1, description="Largest body of a request.")
    max_queued_mib: int = Field(default=4096, ge=1, description="Largest sum of the bodies of a replica.")
    drain_seconds: float = Field(default=60.0, ge=1, description="Time to finish requests when a replica is stopped.")


def build(args: Mapping[str, Any]) -> Any:
    """Build the application; `import_path: worldr1_rewards.ray_engine.deployment:build` in a configuration file.

    Args:
        args: Values of `ApplicationArgs`.

    Raises:
        UserError: An argument is unknown or out of its range, or the manifest or the token cannot be used.
    """
    try:
        return _build(validate_document(ApplicationArgs, args))
    except ValidationError as error:
        raise UserError(f"args: {describe_validation_error(error, ApplicationArgs)}") from error


def _build(args: ApplicationArgs) -> Any:
    settings = ServiceSettings(
        manifest=args.manifest,
        rewards=args.rewards,
        judge=args.judge,
        ask_judge=args.ask_judge,
        devices=tuple(args.devices),
        limits=Limits(body_bytes=args.max_body_mib * MIB),
        max_requests=args.max_requests,
        max_queued_bytes=args.max_queued_mib * MIB,
        max_batch_clips=args.max_batch_clips,
        log_json=True,
    )
    scale = Scale(
        min_replicas=args.min_replicas,
        max_replicas=args.max_replicas,
        target_requests=args.target_requests,
        cpus=args.cpus_per_replica,
        gpus=args.gpus_per_replica,
    )
    token = None if args.token_env is None else read_token(args.token_env, "token_env")
    return make_application(settings, token, scale, args.drain_seconds)
