"""`worldr1 probe`: does a reward deserve trust? Figures on stdout, progress on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worldr1_core.scoring import Scorer

DEFAULT = "default"
"""Stands for the composition of the shipped manifest."""


@click.command()
@click.argument("reward", metavar="REWARD")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="Where a reward named alone gets its options, reconstructor and judge from.  [default: weights-free]",
)
@click.option("--quick", is_flag=True, help="Three scenes instead of 21.")
@click.option("--size", type=click.IntRange(min=16), default=96, show_default=True, help="Side of the clips in pixels.")
@click.option("--frames", type=click.IntRange(min=3), default=9, show_default=True, help="Frames a clip.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the scenes.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for probe.json and probe.html.")
@click.option("--json", "as_line", is_flag=True, help="Print the report as one JSON line instead of a table.")
@click.option("--gate", type=click.FloatRange(0, 1), help="Exit with 1 below this AUC, or where a hack pays.")
def probe(
    reward: str,
    manifest: Path | None,
    quick: bool,
    size: int,
    frames: int,
    seed: int,
    out: Path | None,
    as_line: bool,
    gate: float | None,
) -> None:
    """Score rendered clips with exact truth, clean, corrupted and hacked, and tell whether REWARD ranks them.

    REWARD is the name of an installed reward, a manifest file, whose composition is probed, or "default". A score that
    cannot be had is counted with its reason and is no number in any figure.
    """
    from worldr1_core.files import atomic_write_text, check_writable_folder
    from worldr1_core.progress import progress_bar
    from worldr1_core.provenance import versions
    from worldr1_rewards.probes.page import probe_page
    from worldr1_rewards.probes.pictures import Strips
    from worldr1_rewards.probes.plan import full_plan, quick_plan
    from worldr1_rewards.probes.run import run_probe
    from worldr1_rewards.probes.structure import probe_structure
    from worldr1_rewards.probes.summary import as_json, summarise
    from worldr1_rewards.scoring import manifest_text

    scorer, source = _scorer(reward, manifest)
    if out is not None:
        check_writable_folder(out)
    plan = quick_plan((size, size), frames, seed) if quick else full_plan((size, size), frames, seed)
    strips, outcomes = Strips(plan), []
    total = sum(1 for _ in plan.samples())
    with progress_bar(f"Probing {reward}", total) as advance:
        for outcome in run_probe(scorer, plan, watch=strips.keep if out is not None else None):
            outcomes.append(outcome)
            advance()
            if len(outcomes) % 25 == 0 or len(outcomes) == total:
                click.echo(f"{len(outcomes)} of {total} clips", err=True)
    components = scorer.components
    structure = probe_structure(
        components.rewards, components.judge, plan.cases, plan.severities, plan.size, plan.num_frames
    )
    report = {"reward": reward, **summarise(outcomes, plan), "structure": structure, "versions": versions()}
    if out is not None:
        atomic_write_text(out / "probe.json", json.dumps(as_json(report), indent=1, allow_nan=False) + "\n")
        atomic_write_text(out / "probe.html", probe_page(reward, report, outcomes, plan, strips, manifest_text(source)))
    click.echo(json.dumps(as_json(report), allow_nan=False) if as_line else _table(report))
    if gate is not None and (problems := _problems(report, gate)):
        raise click.ClickException("The gate is not passed: " + "; ".join(problems))


def _scorer(reward: str, manifest: Path | None) -> tuple[Scorer, Path | None]:
    """The scorer, and the manifest it came from."""
    from worldr1_core.errors import UserError
    from worldr1_rewards.scoring import Scorer

    composition = Path(reward) if reward.endswith((".yaml", ".yml")) else None
    if manifest is not None and (composition is not None or reward == DEFAULT):
        raise UserError("--manifest goes with the name of one reward; a composition is probed as it stands.")
    if composition is not None:
        return Scorer.from_manifest(composition), composition
    if reward == DEFAULT:
        return Scorer.from_manifest(), None
    return Scorer.from_manifest(manifest, rewards=[reward]), manifest


def _problems(report: Mapping[str, Any], gate: float) -> list[str]:
    low = [f"AUC of {k} is {v:.3f}" for k, v in report["auc"].items() if math.isnan(v) or v < gate]
    paid = 0 if report["hacks_below_clean"] is True else len(report["hacks_below_clean"])
    return low + ([f"{paid} hacks reach a clean clip"] if paid else [])


def _table(report: Mapping[str, Any]) -> str:
    lines = [f"{'corruption':16} {'AUC':>6} {'mean':>6} {'paired':>6} {'spearman':>8}"]
    for kind in report["auc"]:
        figures = [report[key][kind] for key in ("auc", "auc_mean", "paired", "spearman")]
        lines.append(f"{kind:16} {figures[0]:6.3f} {figures[1]:6.3f} {figures[2]:6.3f} {figures[3]:8.2f}")
    lines += ["", f"{'hack':16} {'smallest margin':>15} {'without score':>14}"]
    for kind, entry in report["hacks"].items():
        share = f"{entry['without_score']}/{entry['count']}"
        lines.append(f"{kind:16} {entry['smallest_margin']:15.3f} {share:>14}")
    failures = [] if report["hacks_below_clean"] is True else report["hacks_below_clean"]
    lines += ["", f"hacks that reach a clean clip of their scene: {len(failures)}"]
    lines += [f"  {f['hack']}: {f['case']}, against {f['clean_case']} ({f['reason']})" for f in failures[:20]]
    missing = {kind: entry["count"] for kind, entry in report["unscored"].items()}
    memory = report["cost"]["megabytes"]
    told = "not told" if memory is None else f"{memory:.0f} MiB"
    lines += [f"clips without a score: {missing or 'none'}"]
    lines += [f"median {report['cost']['seconds']:.2f} s a clip, peak memory of a clip {told}"]
    return "\n".join(lines)
