"""Files of an ablation: figures as JSON and CSV, the table as Markdown and LaTeX, and plots."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldr1_core.errors import MissingExtraError, UserError, require
from worldr1_core.figures import save_figure
from worldr1_core.files import atomic_write_text
from worldr1_core.log import get_logger
from worldr1_core.paper_tables import LATEX_PREAMBLE, latex_table, markdown_table
from worldr1_train.ablation import AblationPlan
from worldr1_train.ablation_results import AblationResult, MetricResult
from worldr1_train.curves import plot_curves, read_curves
from worldr1_train.evaluation import Change

RESULTS, CSV, MARKDOWN, LATEX, PLOT = "ablation.json", "ablation.csv", "ablation.md", "ablation.tex", "ablation.png"
"""Files in the folder of an ablation, beside `curves-<variant>.png`."""
CSV_FIELDS = (
    *("variant", "metric", "before", "after", "after_low", "after_high", "change", "change_low", "change_high"),
    *("num_pairs", "difference", "difference_low", "difference_high", "num_seeds"),
)
"""Fields of the CSV file."""
MISSING = "–"
_PER_ROW = 3
_CLEAR, _UNCLEAR, _BASE = "#0072B2", "#999999", "#D55E00"

log = get_logger(__name__)


def save_ablation(result: AblationResult, plan: AblationPlan) -> list[Path]:
    """Write tables and plots into the folder of the ablation.

    If a plot cannot be drawn (because matplotlib is not installed, for example), a warning is logged.

    Returns:
        The files written.

    Raises:
        OutputError: The folder cannot be written.
    """
    folder = plan.output_dir
    texts = {
        RESULTS: json.dumps(result.as_data(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        CSV: csv_text(result),
        MARKDOWN: markdown(result),
        LATEX: latex(result),
    }
    for name, text in texts.items():
        atomic_write_text(folder / name, text)
    return [folder / name for name in texts] + _draw(result, plan)


def markdown(result: AblationResult, metrics: Sequence[str] | None = None) -> str:
    """Return three tables: after training, differences from the baseline, and changes by noise and training.

    Args:
        result: Figures.
        metrics: Columns; all metrics by default.
    """
    names = result.metrics if metrics is None else [name for name in metrics if name in result.metrics]
    parts = [f"## {title}\n\n{markdown_table(head, rows)}" for title, (head, *rows) in _tables(result, names).items()]
    parts.append(
        f"Cells: mean and 95 % bootstrap interval over the videos of {len(result.seeds)} "
        f"seed{'' if len(result.seeds) == 1 else 's'}. Differences and changes are paired by prompt and seed; "
        "`unclear` marks an interval that contains 0."
    )
    return "\n\n".join(parts) + "\n"


def latex(result: AblationResult) -> str:
    r"""Return the same tables as LaTeX; they need `\usepackage{booktabs}`."""
    tables = _tables(result, result.metrics).items()
    return "\n\n".join([LATEX_PREAMBLE, *(latex_table(title, head, rows) for title, (head, *rows) in tables)]) + "\n"


def csv_text(result: AblationResult) -> str:
    """Return one row per variant and metric; missing numbers are empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for variant, row in result.variants.items():
        for metric, own in row.items():
            writer.writerow(
                {
                    "variant": variant,
                    "metric": metric,
                    "before": own.before,
                    "after": own.after,
                    "after_low": own.interval[0],
                    "after_high": own.interval[1],
                    **_fields("change", own.change),
                    "num_pairs": own.change.num_pairs,
                    **({} if own.difference is None else _fields("difference", own.difference)),
                    "num_seeds": len(result.seeds),
                }
            )
    return stream.getvalue()


def _fields(name: str, change: Change) -> dict[str, float]:
    return {name: change.mean, f"{name}_low": change.low, f"{name}_high": change.high}


def _tables(result: AblationResult, metrics: Sequence[str]) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, the first one being the headings."""
    head = ["variant", *metrics]
    variants = result.variants.items()
    after = [[name, *(_after(row.get(metric)) for metric in metrics)] for name, row in variants]
    changed = [[name, *(_change(_part(row.get(metric), "change")) for metric in metrics)] for name, row in variants]
    tables = {"After training": [head, *after]}
    others = [
        [name, *(_change(_part(row.get(metric), "difference")) for metric in metrics)]
        for name, row in variants
        if name != result.baseline
    ]
    if others:
        tables[f"Difference from {result.baseline}"] = [head, *others]
    return {**tables, "Change from the untrained model": [head, *changed]}


def _part(result: MetricResult | None, name: str) -> Change | None:
    found: Change | None = None if result is None else getattr(result, name)
    return found


def _after(result: MetricResult | None) -> str:
    if result is None or result.after is None:
        return MISSING
    low, high = result.interval
    return f"{result.after:.4g} [{low:.4g}, {high:.4g}]"


def _change(change: Change | None) -> str:
    if change is None:
        return MISSING
    unclear = "" if is_clear(change) else "; unclear"
    return f"{change.mean:+.3g} [{change.low:+.3g}, {change.high:+.3g}]{unclear}"


def is_clear(change: Change) -> bool:
    """Return True if the interval excludes 0."""
    return change.low > 0 or change.high < 0


def _draw(result: AblationResult, plan: AblationPlan) -> list[Path]:
    drawn = []
    try:
        plot_ablation(result, plan.output_dir / PLOT)
        drawn.append(plan.output_dir / PLOT)
        for runs in plan.runs.values():
            name = runs[0].folder.name.removesuffix(f"-{runs[0].seed}")
            path = plan.output_dir / f"curves-{name}.png"
            plot_curves({run.folder.name: read_curves(run.folder) for run in runs}, path)
            drawn.append(path)
    except MissingExtraError as error:
        log.warning("plots not drawn", reason=str(error))
    except UserError as error:
        log.warning("plot not drawn", reason=str(error))
    return drawn


def plot_ablation(result: AblationResult, path: Path) -> None:
    """Draw one panel per metric: mean and interval of every variant after training, and the untrained model.

    Blue variants differ clearly from the baseline (orange), grey ones do not. The dotted line is the untrained model.

    Args:
        result: Figures.
        path: `.png` or `.svg` file.

    Raises:
        OutputError: The suffix is unknown, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    names = result.metrics
    rows = math.ceil(len(names) / _PER_ROW)
    height = 0.9 + 0.26 * len(result.variants)
    figure = require("matplotlib.figure", extra="worldr1-train[plot]").Figure(
        figsize=(3.6 * _PER_ROW, height * rows), dpi=120, layout="constrained"
    )
    panels = figure.subplots(rows, _PER_ROW, squeeze=False, sharey=True).flatten()
    for panel, name in zip(panels, names, strict=False):
        _draw_panel(panel, name, result.variants, result.baseline)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    save_figure(figure, path)


def _draw_panel(panel: object, name: str, variants: Mapping[str, Mapping[str, MetricResult]], baseline: str) -> None:
    axes: Any = panel
    for place, (variant, row) in enumerate(variants.items()):
        own = row.get(name)
        if own is None or own.after is None:
            continue
        clear = own.difference is not None and is_clear(own.difference)
        colour = _BASE if variant == baseline else _CLEAR if clear else _UNCLEAR
        axes.plot(own.interval, [place, place], color=colour, linewidth=2)
        axes.plot([own.after], [place], "o", color=colour, markersize=4)
        if variant == baseline and own.before is not None:
            axes.axvline(own.before, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(variants)), list(variants), fontsize=8)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.3)
