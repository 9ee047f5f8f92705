"""`worldr1 probe`: tests of a reward on clips with known truth. Figures on stdout, progress on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worldr1_core.scoring import ScoringEngine
    from worldr1_rewards.probes.footage import Footage
    from worldr1_rewards.probes.page import Section
    from worldr1_rewards.probes.plan import ProbePlan
    from worldr1_rewards.probes.run import Outcome

DEFAULT = "default"
"""Stands for the composition of the shipped manifest."""


@click.command()
@click.argument("reward", metavar="REWARD")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="Where a reward named alone gets its options, reconstructor and judge from.  [default: weights-free]",
)
@click.option(
    "--clips",
    type=click.Path(path_type=Path),
    help="Folder of real videos with camera paths, in place of rendered clips.",
)
@click.option("--rendered", is_flag=True, help="With --clips: probe the rendered clips too.")
@click.option("--quick", is_flag=True, help="Three scenes instead of 21; for --clips, fewer kinds at full severity.")
@click.option(
    "--moving",
    is_flag=True,
    help="Rendered clips: add honest motion of objects, which must not cost, and an object that morphs.",
)
@click.option(
    "--size", type=click.IntRange(min=16), default=96, show_default=True, help="Side of rendered clips in pixels."
)
@click.option("--frames", type=click.IntRange(min=3), default=9, show_default=True, help="Frames per rendered clip.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of scenes and corruptions.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for probe.json and probe.html.")
@click.option("--json", "as_line", is_flag=True, help="Print the report as one JSON line instead of a table.")
@click.option("--gate", type=click.FloatRange(0, 1), help="Exit with 1 below this AUC, or where a hack pays.")
@click.pass_context
def probe(
    context: click.Context,
    reward: str,
    manifest: Path | None,
    clips: Path | None,
    rendered: bool,
    quick: bool,
    moving: bool,
    size: int,
    frames: int,
    seed: int,
    out: Path | None,
    as_line: bool,
    gate: float | None,
) -> None:
    """Score clips with known truth, clean, corrupted and hacked, and tell whether REWARD ranks them.

    REWARD is the name of an installed reward, a manifest file, whose composition is probed, or "default". The clips are
    rendered, or with --clips real ones: NAME.mp4 with its camera path in NAME.json beside it. A score that cannot be
    had is counted with its reason and is no number in any figure.
    """
    from worldr1_core.files import atomic_write_text, check_writable_folder
    from worldr1_core.provenance import versions
    from worldr1_rewards.probes.footage import read_footage
    from worldr1_rewards.probes.page import probe_page
    from worldr1_rewards.probes.plan import full_plan, quick_plan
    from worldr1_rewards.probes.summary import as_json
    from worldr1_rewards.scoring import manifest_text

    _check_options(context, clips, rendered)
    scorer, source = _scorer(reward, manifest)
    if out is not None:
        check_writable_folder(out)
    footage = None if clips is None else read_footage(clips, quick=quick, seed=seed)
    report: dict[str, Any] = {"reward": reward}
    sections, reports = [], {}
    if footage is not None:
        sections.append(_probe_footage(reward, scorer, footage, with_strips=out is not None))
        reports["real clips"] = report["footage"] = sections[0].report
    if clips is None or rendered:
        plan = (quick_plan if quick else full_plan)((size, size), frames, seed, moving=moving)
        section = _probe_rendered(reward, scorer, plan, with_strips=out is not None, alone=clips is None)
        sections.insert(0, section)
        reports = {"rendered clips": section.report, **reports}
        report = {"reward": reward, **section.report, **report}
    report["versions"] = versions()
    if out is not None:
        atomic_write_text(out / "probe.json", json.dumps(as_json(report), indent=1, allow_nan=False) + "\n")
        atomic_write_text(out / "probe.html", probe_page(reward, sections, manifest_text(source)))
    click.echo(json.dumps(as_json(report), allow_nan=False) if as_line else _tables(reports))
    if gate is not None and (problems := _problems(reports, gate)):
        raise click.ClickException("The gate is not passed: " + "; ".join(problems))


def _check_options(context: click.Context, clips: Path | None, rendered: bool) -> None:
    from click.core import ParameterSource

    from worldr1_core.errors import UserError

    chosen = [
        name for name in ("size", "frames", "moving") if context.get_parameter_source(name) != ParameterSource.DEFAULT
    ]
    if clips is not None and not rendered and chosen:
        names = ", ".join(f"--{name}" for name in chosen)
        raise UserError(f"{names}: chooses rendered clips, but --clips probes real ones. Add --rendered to probe both.")


def _probe_rendered(reward: str, scorer: ScoringEngine, plan: ProbePlan, *, with_strips: bool, alone: bool) -> Section:
    from worldr1_core.plugins import installed
    from worldr1_rewards.probes.page import Section
    from worldr1_rewards.probes.pictures import Strips
    from worldr1_rewards.probes.run import run_probe
    from worldr1_rewards.probes.structure import probe_structure, unprobed_structure
    from worldr1_rewards.probes.summary import summarise

    strips = Strips(plan)
    total = sum(1 for _ in plan.samples())
    scored = run_probe(scorer, plan, watch=strips.keep if with_strips else None)
    outcomes = _collect(f"Probing {reward}", scored, total)
    components = scorer.components
    for name in unprobed_structure(components.rewards, installed().registry):
        click.echo(f"Left out: structure by {name}, which runs in another process.", err=True)
    structure = probe_structure(
        components.rewards, components.judge, plan.cases, plan.severities, plan.size, plan.num_frames
    )
    report = {**summarise(outcomes, plan), "structure": structure}
    return Section(report, outcomes, plan, strips, "" if alone else "Rendered clips")


def _probe_footage(reward: str, scorer: ScoringEngine, footage: Footage, *, with_strips: bool) -> Section:
    from worldr1_rewards.probes.footage import check_enough, score_clean
    from worldr1_rewards.probes.page import Section
    from worldr1_rewards.probes.pictures import Strips
    from worldr1_rewards.probes.run import run_samples
    from worldr1_rewards.probes.summary import summarise

    strips = Strips(footage)
    watch = strips.keep if with_strips else None
    for label, reason in footage.left_out.items():
        click.echo(f"Left out: {label}: {reason}", err=True)
    outcomes, kept = score_clean(scorer, footage, watch)
    for label in kept.left_out.keys() - footage.left_out.keys():
        click.echo(f"Left out: {label}: {kept.left_out[label]}", err=True)
    check_enough(kept)
    total = sum(1 for _ in kept.broken_samples())
    outcomes += _collect(f"Probing {reward} on real clips", run_samples(scorer, kept.broken_samples(), watch), total)
    report = {**summarise(outcomes, kept), "left_out": dict(kept.left_out)}
    return Section(report, outcomes, kept, strips, "Real clips", "footage-")


def _collect(description: str, scored: Iterable[Outcome], total: int) -> list[Outcome]:
    """Return all outcomes, with progress on stderr."""
    from worldr1_core.progress import progress_bar

    outcomes: list[Outcome] = []
    with progress_bar(description, total) as advance:
        for outcome in scored:
            outcomes.append(outcome)
            advance()
            if len(outcomes) % 25 == 0 or len(outcomes) == total:
                click.echo(f"{len(outcomes)} of {total} clips", err=True)
    return outcomes


def _scorer(reward: str, manifest: Path | None) -> tuple[ScoringEngine, Path | None]:
    """The scorer, and the manifest it came from."""
    from worldr1_core.errors import UserError
    from worldr1_rewards.scoring import Scorer

    composition = Path(reward) if reward.endswith((".yaml", ".yml")) else None
    if manifest is not None and (composition is not None or reward == DEFAULT):
        raise UserError("--manifest goes with the name of one reward; a composition is probed as it stands.")
    if composition is not None:
        return Scorer(manifest=composition).engine, composition
    if reward == DEFAULT:
        return Scorer().engine, None
    return Scorer([reward], manifest=manifest).engine, manifest


def _problems(reports: Mapping[str, Mapping[str, Any]], gate: float) -> list[str]:
    problems = []
    for name, report in reports.items():
        where = f"{name}: " if len(reports) > 1 else ""
        low = [f"{where}AUC of {k} is {v:.3f}" for k, v in report["auc"].items() if math.isnan(v) or v < gate]
        paid = 0 if report["hacks_below_clean"] is True else len(report["hacks_below_clean"])
        problems += low + ([f"{where}{paid} hacks reach a clean clip"] if paid else [])
    return problems


def _tables(reports: Mapping[str, Mapping[str, Any]]) -> str:
    if len(reports) == 1:
        return _table(*reports.values())
    return "\n\n".join(f"{name}\n\n{_table(report)}" for name, report in reports.items())


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
    lines += [f"in no figure: {label}: {reason}" for label, reason in report.get("left_out", {}).items()]
    lines += [f"median {report['cost']['seconds']:.2f} s per clip, peak memory per clip {told}"]
    return "\n".join(lines)
