"""Every backbone of this package keeps every contract, loaded as the released checkpoints are."""

from __future__ import annotations

import pytest

from worldr1_backbones.samplers.cps import CPSSampler
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_backbones.wan import TinyWanBackbone
from worldr1_core.testing import backbone_checks, check_backbone
from worldr1_core.testing.backbone_contracts import BACKBONE_CONTRACTS

NAMES = [contract.name for contract in BACKBONE_CONTRACTS]


@pytest.fixture(scope="module")
def checks(checkpoints):
    """Kind -> check name -> check; the checks of one kind share their rollouts."""

    def bound(kind, sampler):
        made = backbone_checks(type(checkpoints.backbone(kind)), options=checkpoints.options(kind), sampler=sampler)
        return {check.name: check for check in made}

    return {
        "wan-2.1": bound("wan-2.1", FlowSDESampler()),
        "wan-2.2-A14B": bound("wan-2.2-A14B", CPSSampler()),
        "cogvideox-1.5": bound("cogvideox-1.5", DDIMSDESampler()),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-A14B", "cogvideox-1.5"])
def test_contract(checks, kind, name):
    checks[kind][name]()


@pytest.mark.parametrize(
    ("kind", "sampler", "dtype"),
    [
        ("wan-2.2-5B", FlowSDESampler(sigma_rule="world-r1"), "float32"),
        ("cogvideox-1.0", DDIMSDESampler(), "float32"),
        ("wan-2.1", FlowSDESampler(), "bfloat16"),
        ("cogvideox-1.5", DDIMSDESampler(), "bfloat16"),
    ],
)
def test_every_contract(checkpoints, kind, sampler, dtype):
    options = {**checkpoints.options(kind), "dtype": dtype}
    report = check_backbone(type(checkpoints.backbone(kind)), options=options, sampler=sampler)
    assert report.skipped.keys() <= {"device"}


@pytest.mark.slow
def test_the_shipped_tiny_model_keeps_every_contract():
    report = check_backbone(TinyWanBackbone, sampler=FlowSDESampler(), round_trip=0.1)
    assert report.skipped.keys() <= {"device"}
