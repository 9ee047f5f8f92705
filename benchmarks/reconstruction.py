r"""What does each reconstructor give, and what does it cost? The same rendered clips with exact truth for all of them.

    python benchmarks/reconstruction.py --quick                        # direct, five clips at 64x64x9, under a minute
    python benchmarks/reconstruction.py                                # all that are installed, three sizes
    python benchmarks/reconstruction.py --reconstructors direct colmap --sizes 64x64x9 128x128x17
    uv run --isolated --no-group hps --group nerfstudio python benchmarks/reconstruction.py \
        --reconstructors nerfstudio --sizes 64x64x9 --cases 2
    uv run --isolated --no-group hps --group da3 python benchmarks/reconstruction.py \
        --reconstructors da3 --da3-random-weights da3-small --cases 3

For each reconstructor and size: rotation error (degrees, mean over frames and clean clips), translation error (root
mean square distance of camera centres after alignment, over the path's extent, clean clips that travel), PSNR of the
re-render of clean clips, AUC of `reconstruction` + `trajectory` for clean clips against each corruption at full
severity, whether every hack earns less than every clean clip of its scene, clips without a score, the failure rate on
clean clips with its reasons, seconds (median and longest) and peak memory of scoring a clip: the first one's holds what
a package or weights take when they are loaded. A reconstructor that cannot run here is listed with the reason. With
`--da3-random-weights` Depth Anything 3 has its real size and random weights, and scores the clean clips alone: the row
tells what it costs, and nothing else. Progress goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worldr1_core.compose import compose_scoring
from worldr1_core.errors import WorldR1Error
from worldr1_core.log import configure_logging
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.scoring import ClipScores, ScoringEngine
from worldr1_rewards import metrics
from worldr1_rewards.camera_metrics import absolute_trajectory_error, failure_rate, rotation_errors
from worldr1_rewards.probes.plan import CLEAN, QUICK_HACKS, Case, ProbePlan, Sample
from worldr1_rewards.probes.run import Outcome, run_probe
from worldr1_rewards.probes.summary import as_json, summarise
from worldr1_rewards.probes.world import CORRUPTIONS
from worldr1_rewards.reconstructors.foreign_code import quiet, seeded

SIZES = ("64x64x9", "128x128x17", "240x416x17")
CASES = (
    Case("rich", ("push in",), 0),
    Case("soft", ("orbit left",), 1),
    Case("tiles", ("move right",), 2),
    Case("gloss", ("pan left",), 3),
)
QUICK_BREAKS = ("morph", "wrong_direction"), ("frozen", "pure_noise")
"""Corruptions and hacks of `--quick`."""
ANGLE_OF_VIEW = 0.8
"""Radians that the random camera head is pulled to; drawn freely it is mostly 0, which is refused."""
MANIFEST = """version: 1
device: {device}
reconstructor: {{name: {name}{options}}}
rewards:
  - {{name: reconstruction}}
  - {{name: trajectory}}
"""


class Geometry:
    """Errors of the clean clips' cameras and re-renders; `watch` is called with every scored clip."""

    def __init__(self) -> None:
        self.rotation: list[float] = []
        self.translation: list[float] = []
        self.psnr: list[float] = []

    def watch(self, outcome: Outcome, result: ClipScores) -> None:
        """Compare a clean clip's reconstruction with the truth."""
        if outcome.sample.kind != CLEAN or result.reconstruction is None:
            return
        assert isinstance(outcome.sample, Sample)
        world = outcome.sample.render()
        scene = result.reconstruction
        estimate = scene.trajectory.c2w
        self.rotation.append(float(torch.rad2deg(rotation_errors(estimate, world.c2w)).mean()))
        extent = float((world.c2w[:, :3, 3] - world.c2w[0, :3, 3]).norm(dim=-1).max())
        if extent > 1e-6:
            self.translation.append(absolute_trajectory_error(estimate, world.c2w) / extent)
        render = scene.rerender()
        value = float(metrics.psnr(render.frames.cpu(), world.frames, render.coverage.cpu()).nanmean())
        if math.isfinite(value):
            self.psnr.append(value)


@dataclass(frozen=True)
class Row:
    """What a row of the table is measured on.

    Attributes:
        name: Registered reconstructor.
        size: HxWxT.
        cases: Scenes.
        device: Torch device.
        corruptions, hacks: With which every scene is shown.
        checkpoint: Folder with random weights, or `None`: the row then tells the cost alone.
    """

    name: str
    size: str
    cases: tuple[Case, ...]
    device: str
    corruptions: tuple[str, ...] = CORRUPTIONS
    hacks: tuple[str, ...] = QUICK_HACKS
    checkpoint: str | None = None


def measure(asked: Row) -> dict[str, Any]:
    """One row of the table."""
    height, width, num_frames = (int(part) for part in asked.size.split("x"))
    row: dict[str, Any] = {"reconstructor": asked.name, "size": asked.size, "device": asked.device}
    configure_logging("error")
    torch.set_num_threads(1)
    options = "" if asked.checkpoint is None else f", model: {json.dumps(asked.checkpoint)}"
    text = MANIFEST.format(name=asked.name, device=asked.device, options=options)
    try:
        registry = installed().registry
        scorer = ScoringEngine(compose_scoring(parse_manifest(text, registry), registry))
        plan = ProbePlan(
            asked.cases, (1.0,), (height, width), num_frames, hacks=asked.hacks, corruptions=asked.corruptions
        )
        geometry, outcomes = Geometry(), []
        for outcome in run_probe(scorer, plan, watch=geometry.watch):
            outcomes.append(outcome)
            sample = outcome.sample
            told = f"{sample.kind}, {sample.case.label}: {outcome.seconds:.1f} s"
            print(f"{asked.name} {asked.size}: {told}", file=sys.stderr, flush=True)
    except WorldR1Error as error:
        return row | {"cannot_run": " ".join(str(error).split())}
    report = summarise(outcomes, plan)
    row |= {"scenes": len(asked.cases), "clips": len(outcomes), **report["cost"]}
    row["unscored"] = {kind: entry["count"] for kind, entry in report["unscored"].items()}
    if asked.checkpoint is not None:
        return row | {"weights": "random: cost only"}
    failures = failure_rate([outcome.reason for outcome in outcomes if outcome.sample.kind == CLEAN])
    return row | {
        "clean_failure_rate": failures.rate,
        "clean_failure_reasons": dict(failures.reasons),
        "rotation_degrees": _mean(geometry.rotation),
        "translation_share": _mean(geometry.translation),
        "psnr": _mean(geometry.psnr),
        "auc": report["auc"],
        "paired": report["paired"],
        "hacks_below_clean": report["hacks_below_clean"],
    }


def write_random_da3(name: str, folder: Path, angle_of_view: float = ANGLE_OF_VIEW) -> None:
    """Write a Depth Anything 3 of real size with random weights in the released layout.

    Args:
        name: As the package calls it, such as `"da3-small"`.
        folder: Where to.
        angle_of_view: Radians that the camera head is pulled to, with nearly level cameras.
    """
    with quiet(), seeded("cpu"):
        from depth_anything_3.api import DepthAnything3

        model = DepthAnything3(model_name=name)
    head = model.model.cam_dec
    with torch.no_grad():
        for layer, bias in ((head.fc_qvec, [0.0, 0.0, 0.0, 1.0]), (head.fc_fov[0], [angle_of_view] * 2)):
            layer.weight.mul_(0.05)
            layer.bias.copy_(torch.tensor(bias))
    model.save_pretrained(folder)


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do something in a process of its own: memory that an allocator keeps would hide what the next row needs."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _line(row: dict[str, Any]) -> str:
    head = f"{row['reconstructor']:14} {row['size']:11} {row['device']:5}"
    if "cannot_run" in row:
        return f"{head} cannot run: {row['cannot_run']}"
    memory = "not told" if row["megabytes"] is None else f"{row['megabytes']:.0f} MiB"
    cost = f"{row['seconds']:.2f} s (longest {row['seconds_max']:.2f} s), {memory}"
    missing = f"without a score {sum(row['unscored'].values())} of {row['clips']} (scenes: {row['scenes']}"
    if "weights" in row:
        return f"{head} random weights, cost only: {missing}), {cost}"
    known = [value for value in row["auc"].values() if not math.isnan(value)]
    failed = 0 if row["hacks_below_clean"] is True else len(row["hacks_below_clean"])
    return (
        f"{head} rotation {row['rotation_degrees']:.3f} deg, path {100 * row['translation_share']:.2f} %, "
        f"PSNR {row['psnr']:.1f} dB, AUC lowest {min(known, default=math.nan):.3f} mean {_mean(known):.3f}, "
        f"hacks that reach a clean clip {failed}, {missing}, {row['clean_failure_rate']:.0%} of the clean ones), {cost}"
    )


def _size(value: str) -> str:
    if not re.fullmatch(r"\d+x\d+x\d+", value):
        raise argparse.ArgumentTypeError(f"{value!r} is not of the form HxWxT, such as 64x64x9")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    names = installed().registry.names("reconstructor")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="direct, one scene at 64x64x9, five clips")
    parser.add_argument("--reconstructors", nargs="+", default=names, help=f"installed: {', '.join(names)}")
    parser.add_argument("--sizes", nargs="+", type=_size, default=list(SIZES), metavar="HxWxT")
    parser.add_argument("--cases", type=int, default=len(CASES), choices=range(1, len(CASES) + 1), help="scenes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--da3-random-weights",
        choices=("da3-small", "da3-base"),
        help="measure what Depth Anything 3 of this size costs, with random weights",
    )
    args = parser.parse_args(argv)
    chosen = ["direct"] if args.quick else args.reconstructors
    sizes, cases = (SIZES[:1], CASES[:1]) if args.quick else (args.sizes, CASES[: args.cases])
    breaks = QUICK_BREAKS if args.quick else (CORRUPTIONS, QUICK_HACKS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            random = name == "da3" and args.da3_random_weights is not None
            if random and importlib.util.find_spec("depth_anything_3") is not None:  # else the row says what is absent
                _apart(write_random_da3, args.da3_random_weights, Path(folder))
            for size in sizes:
                kinds, checkpoint = (((), ()), folder) if random else (breaks, None)
                rows.append(_apart(measure, Row(name, size, cases, args.device, *kinds, checkpoint)))
                print(_line(rows[-1]), flush=True)
    print(json.dumps(as_json({"torch": torch.__version__, "rows": rows}), allow_nan=False))


if __name__ == "__main__":
    main()
