"""Options of `--engine ray`: what goes with what, the missing extra, and the size of the pool of workers."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from worldr1_core.cli import cli
from worldr1_core.errors import MissingExtraError, UserError
from worldr1_rewards.ray_engine import cluster
from worldr1_rewards.ray_engine.cluster import WorkerOptions
from worldr1_rewards.serving.server import ListenSettings


@pytest.fixture
def run(tmp_path):
    manifest = tmp_path / "m.yaml"
    manifest.write_text("version: 1\nrewards: [{name: contrast}]\n")

    def invoke(*args: str):
        return CliRunner().invoke(cli, [arg.replace("MANIFEST", str(manifest)) for arg in args])

    return invoke


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("score", "a.mp4", "--records", "r"), "--records needs --engine ray."),
        (("score", "a.mp4", "--workers", "2"), "--workers needs --engine ray."),
        (("score", "a.mp4", "--gpus-per-worker", "1"), "--gpus-per-worker needs --engine ray."),
        (("score", "a.mp4", "--engine", "ray", "--out", "o"), "--out does not go with --engine ray."),
        (("score", "a.mp4", "--engine", "ray", "--batch-size", "2"), "--batch-size does not go with --engine ray."),
        (("score", "s3://bucket/a.mp4"), "'s3://bucket/a.mp4' is no local path. Use --engine ray"),
        (("eval", "--videos", "A=s3://bucket/a"), "'s3://bucket/a' is no local path. Use --engine ray"),
        (("eval", "--videos", "A=a", "--gpus-per-worker", "1"), "--gpus-per-worker needs --engine ray."),
        (("serve", "MANIFEST", "--max-replicas", "2"), "--max-replicas needs --engine ray."),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, args, message):
    result = run(*args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_missing_extra_names_its_command(run, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    (tmp_path / "a.mp4").write_text("?")
    for args in (
        ("score", str(tmp_path / "a.mp4"), "--engine", "ray"),
        ("serve", "MANIFEST", "--engine", "ray"),
    ):
        result = run(*args)
        assert result.exit_code == MissingExtraError.exit_code
        assert "pip install 'worldr1-rewards[ray]'" in result.output


def test_an_unknown_reward_is_refused_before_a_cluster_is_started(run, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "require_ray", lambda: pytest.fail("Ray was imported"))
    (tmp_path / "a.mp4").write_text("?")
    result = run("score", str(tmp_path / "a.mp4"), "--engine", "ray", "--rewards", "contrsat")
    assert result.exit_code == 2
    assert "Did you mean 'contrast'?" in result.output


@pytest.mark.parametrize(
    ("options", "resources", "tasks", "expected"),
    [
        (WorkerOptions(), {"CPU": 8.0}, 100, (8, 0.0)),
        (WorkerOptions(), {"CPU": 8.0}, 3, (3, 0.0)),
        (WorkerOptions(), {"CPU": 8.0, "GPU": 2.0}, 100, (2, 1.0)),
        (WorkerOptions(None, 0.5), {"CPU": 8.0, "GPU": 2.0}, 100, (4, 0.5)),
        (WorkerOptions(5, 0), {"CPU": 8.0, "GPU": 2.0}, 100, (5, 0)),
        (WorkerOptions(), {}, 100, (1, 0.0)),
    ],
)
def test_workers_follow_the_resources_of_the_cluster(options, resources, tasks, expected):
    assert options.resolve(resources, tasks) == expected


def test_more_gpus_than_there_are_is_an_error():
    with pytest.raises(UserError, match="needs 2 GPUs, and the cluster has 1"):
        WorkerOptions(None, 2).resolve({"CPU": 4.0, "GPU": 1.0}, 10)


@pytest.mark.parametrize("gpus", [1.5, -1])
def test_gpus_are_a_fraction_or_whole(gpus):
    with pytest.raises(UserError, match="fraction of one, 0 or a whole number"):
        WorkerOptions(1, gpus)


def test_arguments_of_a_configuration_file_become_settings(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from worldr1_rewards.ray_engine import deployment

    monkeypatch.setattr(deployment, "make_application", lambda *args: args)
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    given = {"manifest": "/etc/m.yaml", "token_env": "REWARD_TOKEN", "max_replicas": 3, "max_body_mib": 7}
    settings, token, scale, _ = deployment.build(given)
    assert (str(settings.manifest), token, scale.max_replicas) == ("/etc/m.yaml", "secret", 3)
    assert settings.limits.body_bytes == 7 * 2**20
    with pytest.raises(UserError, match="max_replica"):
        deployment.build({"manifest": "/etc/m.yaml", "max_replica": 3})


def test_replica_bounds_must_agree():
    pytest.importorskip("ray")
    from worldr1_rewards.ray_engine.deployment import Scale

    with pytest.raises(UserError, match="at least 3 replicas and at most 2"):
        Scale(min_replicas=3, max_replicas=2).check()


def test_an_open_address_needs_a_token_on_ray_too(tmp_path):
    pytest.importorskip("ray")
    from worldr1_rewards.ray_engine.deployment import Scale
    from worldr1_rewards.ray_engine.server import run_on_ray
    from worldr1_rewards.serving.service import ServiceSettings

    with pytest.raises(UserError, match="the server has no token"):
        run_on_ray(ServiceSettings(manifest=tmp_path / "m.yaml"), ListenSettings(host="0.0.0.0"), Scale(), print)
