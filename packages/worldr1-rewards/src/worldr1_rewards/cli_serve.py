"""`worldr1 serve`: the rewards of a manifest behind HTTP."""

from __future__ import annotations

import functools
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from worldr1_rewards.cli_engines import LOCAL, RAY, engine_option, gpus_option, refuse

_RAY_OPTIONS = {
    "min_replicas": "--min-replicas",
    "max_replicas": "--max-replicas",
    "target_requests": "--target-requests",
    "cpus_per_replica": "--cpus-per-replica",
    "gpus_per_replica": "--gpus-per-replica",
}
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("manifest", type=_PATH)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; other than loopback needs --token-env.")
@click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="Port; 0 for a free one.")
@click.option("--uds", type=_PATH, help="Unix socket to listen on, instead of --host and --port.")
@click.option("--rewards", help="Comma-separated reward names, instead of all in the manifest.")
@click.option("--judge", is_flag=True, help="Serve the judge of the manifest, and only the rewards of --rewards.")
@click.option("--ask-judge", is_flag=True, help="Rewards ask the judge at its `placement`, instead of running it here.")
@click.option(
    "--device", "devices", multiple=True, help="Device of a worker; repeat it for several.  [default: the manifest's]"
)
@click.option("--token-env", help="Environment variable with the token that requests must bring.")
@click.option("--tls-cert", type=_PATH, help="TLS certificate (PEM).")
@click.option("--tls-key", type=_PATH, help="Private key of the certificate (PEM).")
@click.option(
    "--max-requests",
    type=click.IntRange(1, 10**5),
    default=64,
    show_default=True,
    help="Requests received, queued and scored at once; more are answered with 429.",
)
@click.option(
    "--max-batch-clips",
    type=click.IntRange(1, 10**4),
    default=8,
    show_default=True,
    help="Clips of several requests that are scored together; 1 scores every request alone.",
)
@click.option(
    "--max-body-mib", type=click.IntRange(1, 2**20), default=1024, show_default=True, help="Largest body of a request."
)
@click.option(
    "--max-queued-mib",
    type=click.IntRange(1, 2**30),
    default=4096,
    show_default=True,
    help="Largest sum of the bodies of all requests.",
)
@click.option("--max-clips", type=click.IntRange(1, 10**5), default=64, show_default=True, help="Clips per request.")
@click.option("--max-frames", type=click.IntRange(1, 10**6), default=1024, show_default=True, help="Frames per video.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 2**31),
    default=4096 * 2304,
    show_default=True,
    help="Height times width of a frame.",
)
@click.option(
    "--max-decoded-mib",
    type=click.IntRange(1, 2**20),
    default=4096,
    show_default=True,
    help="Decoded float32 frames of a request.",
)
@click.option(
    "--start-seconds",
    type=click.FloatRange(1, 86400),
    default=1800.0,
    show_default=True,
    help="Time for the models to load.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(1, 86400),
    default=60.0,
    show_default=True,
    help="Time to finish requests after SIGTERM.",
)
@click.option("--stop-with-input", is_flag=True, help="Stop when the standard input ends.")
@engine_option("Serve from this process, or as replicas on a Ray cluster (RAY_ADDRESS, else this machine).")
@click.option("--min-replicas", type=click.IntRange(1, 10**4), default=1, help="Ray: replicas that always run.")
@click.option(
    "--max-replicas", type=click.IntRange(1, 10**4), help="Ray: replicas at the highest load.  [default: the least]"
)
@click.option(
    "--target-requests",
    type=click.FloatRange(0.1, 1e5),
    default=4.0,
    show_default=True,
    help="Ray: requests under way per replica above which more replicas are started.",
)
@click.option(
    "--cpus-per-replica",
    type=click.FloatRange(0, 4096),
    default=1.0,
    show_default=True,
    help="Ray: logical CPUs of each replica.",
)
@gpus_option("--gpus-per-replica", "gpus_per_replica")
@click.pass_context
def serve(
    context: click.Context,
    manifest: Path,
    host: str,
    port: int,
    uds: Path | None,
    rewards: str | None,
    judge: bool,
    ask_judge: bool,
    devices: tuple[str, ...],
    token_env: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    max_requests: int,
    max_batch_clips: int,
    max_body_mib: int,
    max_queued_mib: int,
    max_clips: int,
    max_frames: int,
    max_pixels: int,
    max_decoded_mib: int,
    start_seconds: float,
    drain_seconds: float,
    stop_with_input: bool,
    engine: str,
    min_replicas: int,
    max_replicas: int | None,
    target_requests: float,
    cpus_per_replica: float,
    gpus_per_replica: float | None,
) -> None:
    """Serve the rewards of MANIFEST, or its judge, over HTTP.

    Prints the address once models are loaded. Every reward that is served runs here; placements in the manifest are
    ignored, so that one manifest serves and asks. SIGTERM finishes the requests that are under way.
    """
    if judge and ask_judge:
        raise click.UsageError("--judge serves the judge here, and --ask-judge leaves it elsewhere. Use one of them.")
    if engine == LOCAL:
        refuse(context, _RAY_OPTIONS, "needs --engine ray.")
    from worldr1_core.errors import require

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="worldr1-rewards[serve]")

    from worldr1_rewards.serving.limits import MIB, Limits
    from worldr1_rewards.serving.server import ListenSettings, run_server
    from worldr1_rewards.serving.service import ServiceSettings
    from worldr1_rewards.serving.tokens import read_token

    program = {} if context.parent is None else context.parent.params
    settings = ServiceSettings(
        manifest=manifest,
        rewards=None if rewards is None else [name.strip() for name in rewards.split(",") if name.strip()],
        judge=judge,
        ask_judge=ask_judge,
        devices=devices or (None,),
        limits=Limits(
            body_bytes=max_body_mib * MIB,
            clips=max_clips,
            frames=max_frames,
            pixels=max_pixels,
            decoded_bytes=max_decoded_mib * MIB,
        ),
        max_requests=max_requests,
        max_queued_bytes=max_queued_mib * MIB,
        max_batch_clips=max_batch_clips,
        start_seconds=start_seconds,
        log_level=program.get("log_level", "info"),
        log_json=program.get("log_json", False),
    )
    listen = ListenSettings(
        host=host,
        port=port,
        socket_path=uds,
        token=None if token_env is None else read_token(token_env, "--token-env"),
        certificate=tls_cert,
        key=tls_key,
        drain_seconds=drain_seconds,
        stop_with_input=stop_with_input,
    )
    if engine == RAY:
        from worldr1_rewards.ray_engine.cluster import require_ray

        require_ray()
        from worldr1_rewards.ray_engine.deployment import Scale
        from worldr1_rewards.ray_engine.server import run_on_ray

        scale = Scale(
            min_replicas=min_replicas,
            max_replicas=min_replicas if max_replicas is None else max_replicas,
            target_requests=target_requests,
            cpus=cpus_per_replica,
            gpus=gpus_per_replica,
        )
        announce = functools.partial(click.echo, file=sys.stdout)
        with redirect_stdout(sys.stderr):  # Ray prints what its replicas print
            run_on_ray(settings, listen, scale, announce)
        return
    run_server(settings, listen, click.echo)
