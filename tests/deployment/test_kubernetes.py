"""Examples for Kubernetes: fields that the operators know, names that fit together, and commands that parse.

The files were also validated against the full schemas of KubeRay and of Kubeflow's training operator; the fields that
these schemas require or restrict are repeated here.
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from deployment.commands import ROOT, after_worldr1, check_worldr1, split
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed

FOLDER = ROOT / "examples" / "kubernetes"
QUANTITY = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}]}


def closed(properties: dict, required: tuple[str, ...] = ()) -> dict:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def listed(items: dict, least: int = 1) -> dict:
    return {"type": "array", "items": items, "minItems": least}


TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
RESOURCES = closed({key: {"type": "object", "additionalProperties": QUANTITY} for key in ("requests", "limits")})
PROBE = closed(
    {
        "httpGet": closed({"path": TEXT, "port": TEXT}, ("path", "port")),
        **{key: {"type": "integer", "minimum": 1} for key in ("periodSeconds", "timeoutSeconds", "failureThreshold")},
    },
    ("httpGet",),
)
SECRET = closed({"secretKeyRef": closed({"name": TEXT, "key": TEXT}, ("name", "key"))})
CONTAINER = closed(
    {
        "name": TEXT,
        "image": {"type": "string", "pattern": r"^[a-z0-9-]+:(?!latest)[\w.]+$"},
        "command": listed(TEXT),
        "args": listed(TEXT),
        "workingDir": TEXT,
        "env": listed(closed({"name": TEXT, "value": TEXT, "valueFrom": SECRET}, ("name",))),
        "ports": listed(closed({"name": TEXT, "containerPort": COUNT}, ("containerPort",))),
        "startupProbe": PROBE,
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
        "resources": RESOURCES,
        "securityContext": closed(
            {
                "allowPrivilegeEscalation": FLAG,
                "readOnlyRootFilesystem": FLAG,
                "capabilities": closed({"drop": listed(TEXT)}),
            }
        ),
        "volumeMounts": listed(closed({"name": TEXT, "mountPath": TEXT, "readOnly": FLAG}, ("name", "mountPath"))),
    },
    ("name", "image", "resources"),
)
VOLUME = closed(
    {
        "name": TEXT,
        "configMap": closed({"name": TEXT}, ("name",)),
        "persistentVolumeClaim": closed({"claimName": TEXT}, ("claimName",)),
        "emptyDir": closed({"medium": {"enum": ["Memory"]}, "sizeLimit": QUANTITY}),
    },
    ("name",),
)
POD = closed(
    {
        "containers": listed(CONTAINER),
        "volumes": listed(VOLUME),
        "terminationGracePeriodSeconds": COUNT,
        "automountServiceAccountToken": FLAG,
        "securityContext": closed(
            {
                "runAsNonRoot": {"const": True},
                "runAsUser": {"type": "integer", "minimum": 1},
                "fsGroup": COUNT,
                "seccompProfile": closed({"type": TEXT}),
            },
            ("runAsNonRoot",),
        ),
    },
    ("containers", "securityContext"),
)
TEMPLATE = closed({"metadata": closed({"labels": TEXTS, "annotations": TEXTS}), "spec": POD}, ("spec",))
RAY_CLUSTER = closed(
    {
        "rayVersion": TEXT,
        "enableInTreeAutoscaling": FLAG,
        "headGroupSpec": closed({"rayStartParams": TEXTS, "template": TEMPLATE}, ("template",)),
        "workerGroupSpecs": listed(
            closed(
                {
                    "groupName": TEXT,
                    **dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), COUNT),
                    "rayStartParams": TEXTS,
                    "template": TEMPLATE,
                },
                ("groupName", "maxReplicas", "minReplicas", "template"),
            )
        ),
    },
    ("headGroupSpec",),
)
REPLICA = closed(
    {
        "replicas": COUNT,
        "restartPolicy": {"enum": ["Always", "OnFailure", "Never", "ExitCode"]},
        "template": TEMPLATE,
    },
    ("template",),
)
SPECS = {
    ("apps/v1", "Deployment"): closed(
        {"replicas": COUNT, "selector": closed({"matchLabels": TEXTS}), "template": TEMPLATE}, ("selector", "template")
    ),
    ("v1", "Service"): closed(
        {
            "selector": TEXTS,
            "ports": listed(closed({"name": TEXT, "port": COUNT, "targetPort": TEXT}, ("port",))),
        }
    ),
    ("v1", "PersistentVolumeClaim"): closed({"accessModes": listed(TEXT), "resources": RESOURCES}),
    ("ray.io/v1", "RayService"): closed({"serveConfigV2": TEXT, "rayClusterConfig": RAY_CLUSTER}),
    ("ray.io/v1", "RayJob"): closed(
        {
            "entrypoint": TEXT,
            "shutdownAfterJobFinishes": FLAG,
            "ttlSecondsAfterFinished": COUNT,
            "backoffLimit": COUNT,
            "rayClusterSpec": RAY_CLUSTER,
        }
    ),
    ("kubeflow.org/v1", "PyTorchJob"): closed(
        {
            "nprocPerNode": TEXT,
            "runPolicy": closed({"cleanPodPolicy": {"enum": ["Running", "All", "None"]}, "backoffLimit": COUNT}),
            "pytorchReplicaSpecs": closed({"Master": REPLICA, "Worker": REPLICA}, ("Master",)),
        },
        ("pytorchReplicaSpecs",),
    ),
}


def documents(path: Path) -> list[dict]:
    return [json.loads(json.dumps(document)) for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


ALL = {
    (path.name, document["kind"]): document for path in sorted(FOLDER.glob("*.yaml")) for document in documents(path)
}


def one(kind: str) -> dict:
    return next(document for (_, own), document in ALL.items() if own == kind)


def pods() -> list[dict]:
    """Every pod specification of the examples."""
    found: list[dict] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "containers" in node:
                found.append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(list(ALL.values()))
    return found


def manifest_text() -> str:
    return one("ConfigMap")["data"]["rewards.yaml"]


@pytest.mark.parametrize("key", [key for key in ALL if key[1] != "ConfigMap"], ids=lambda key: "-".join(key))
def test_fields_are_those_of_the_schema(key):
    document = ALL[key]
    assert document["metadata"]["name"]
    jsonschema.validate(document["spec"], SPECS[document["apiVersion"], document["kind"]])


def test_every_volume_that_is_mounted_exists():
    assert len(pods()) == 7
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_every_container_has_a_memory_limit():
    for pod in pods():
        assert all("memory" in container["resources"]["limits"] for container in pod["containers"])


def test_service_reaches_the_pods_of_the_deployment():
    deployment, service = one("Deployment")["spec"], one("Service")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    (container,) = deployment["template"]["spec"]["containers"]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_server_is_started_with_options_that_exist_and_probed_where_it_answers():
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = check_worldr1(container["args"]).params
    assert options["port"] == container["ports"][0]["containerPort"]
    assert options["token_env"] in {variable["name"] for variable in container["env"]}
    assert options["drain_seconds"] < pod["terminationGracePeriodSeconds"]
    probes = {container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {"/readyz", "/healthz"}


def test_the_manifest_is_valid():
    assert parse_manifest(manifest_text(), installed().registry).rewards


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_serve_configuration_is_that_of_ray_and_of_our_builder():
    pytest.importorskip("ray")
    from ray.serve.schema import ServeDeploySchema

    from worldr1_rewards.ray_engine import deployment

    config = yaml.safe_load(one("RayService")["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    module, _, name = application.import_path.partition(":")
    assert (module, name) == (deployment.__name__, deployment.build.__name__)
    args = deployment.ApplicationArgs.model_validate(application.args)
    mounts = [mount["mountPath"] for pod in pods() for c in pod["containers"] for mount in c["volumeMounts"]]
    assert str(args.manifest.parent) in mounts
    assert args.manifest.name in one("ConfigMap")["data"]


def test_ray_has_the_version_of_the_lock():
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    version = lock.partition('name = "ray"\nversion = "')[2].partition('"')[0]
    service, job = one("RayService")["spec"]["rayClusterConfig"], one("RayJob")["spec"]["rayClusterSpec"]
    assert service["rayVersion"] == job["rayVersion"] == version


def test_the_job_scores_with_options_that_exist():
    options = check_worldr1(after_worldr1(split(one("RayJob")["spec"]["entrypoint"]))).params
    assert options["engine"] == "ray"
    assert options["videos"] == ("s3://bucket/videos",)


def test_training_is_started_by_torchrun_with_options_that_exist():
    from torch.distributed.run import get_args_parser

    for role in ("Master", "Worker"):
        pod = one("PyTorchJob")["spec"]["pytorchReplicaSpecs"][role]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["name"] == "pytorch"
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert int(variables["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
        words = [*container["command"], *container["args"]]
        assert words[0] == "torchrun"
        parsed = get_args_parser().parse_args(words[1:])
        assert (parsed.no_python, parsed.training_script) == (True, "worldr1")
        options = check_worldr1(parsed.training_script_args).params
        assert options["resume"] is True
        manifest = options["manifest"].relative_to("/app")
        assert (ROOT / manifest).is_file()
