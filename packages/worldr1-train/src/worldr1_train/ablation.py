"""Ablations: every variant of a manifest is trained and evaluated with the same seeds, one run after the other.

A run is an ordinary run of `worldr1 train` in a folder of its own, so that an interrupted ablation continues where it
stopped, and a single run can be continued or looked at by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worldr1_core.errors import ManifestError, UserError, WorldR1Error, suggest
from worldr1_core.log import get_logger
from worldr1_core.registry import Registry
from worldr1_train.checkpoints import list_checkpoints
from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY
from worldr1_train.plan import RECORD, TrainingPlan, plan_run, read_manifest
from worldr1_train.variants_section import VariantsSection

PROGRAM = "from worldr1_core.cli import main; main()"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AblationRun:
    """One training run of an ablation.

    Attributes:
        variant: Its variant.
        seed: Its seed.
        folder: Its folder.
        overrides: Everything that it changes in the manifest, as for `--set`.
    """

    variant: str
    seed: int
    folder: Path
    overrides: tuple[str, ...]

    @property
    def is_finished(self) -> bool:
        """Whether the evaluation after training has been written."""
        return (self.folder / AFTER).exists()

    @property
    def is_started(self) -> bool:
        """Whether there is something to continue."""
        return (self.folder / RECORD).exists() or bool(list_checkpoints(self.folder))


@dataclass(frozen=True, slots=True)
class AblationPlan:
    """Checked inputs of an ablation.

    Attributes:
        manifest: Manifest file.
        output_dir: Folder with one folder per run, and the tables.
        runs: Variant -> its runs, one per seed.
        num_processes: Processes of every run.
    """

    manifest: Path
    output_dir: Path
    runs: Mapping[str, Sequence[AblationRun]]
    num_processes: int = 1

    @property
    def baseline(self) -> str:
        """Variant that the others are compared with: the first."""
        return next(iter(self.runs))

    @property
    def seeds(self) -> list[int]:
        """Seeds of every variant."""
        return [run.seed for run in self.runs[self.baseline]]

    def __iter__(self) -> Iterator[AblationRun]:
        """All runs, variant by variant."""
        return (run for runs in self.runs.values() for run in runs)


Launch = Callable[[AblationPlan, AblationRun], None]
"""Trains one run, or continues it; raises an error if it fails."""


def plan_ablation(
    path: Path,
    registry: Registry,
    *,
    output_dir: Path,
    variants: Mapping[str, Sequence[str]] | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    num_processes: int = 1,
) -> AblationPlan:
    """Read and check all runs of an ablation before the first one starts.

    Args:
        path: Manifest file.
        registry: Registry of the installed components.
        output_dir: Folder of the ablation.
        variants: Variant -> its changes, as for `--set`; by default the manifest's section `variants`.
        seeds: Seeds that every variant is trained with; by default the manifest's.
        only: Names of the variants to run, in this order; all by default. The first one is the baseline.
        overrides: Changes of every variant, applied after its own.
        num_processes: Processes of every run.

    Raises:
        UserError: An input is invalid. No run has been started.
    """
    manifest = read_manifest(path, registry)
    known = _variants(path, manifest.sections.get("variants")) if variants is None else variants
    chosen = _choose(known, only)
    folders = _folder_names(chosen)
    runs = {
        name: tuple(
            AblationRun(name, seed, output_dir / f"{folders[name]}-{seed}", (f"seed={seed}", *known[name], *overrides))
            for seed in _check_seeds(seeds if seeds is not None else [manifest.seed])
        )
        for name in chosen
    }
    plan = AblationPlan(path, output_dir, runs, num_processes)
    _check_runs(plan, registry)
    return plan


def run_ablation(plan: AblationPlan, launch: Launch | None = None) -> None:
    """Train every run that is not finished; one that was interrupted is continued.

    Args:
        plan: The runs.
        launch: Trains one run; by default `worldr1 train` in a process of its own.

    Raises:
        UserError: A run failed. The finished ones are kept, and the ablation can be run again.
    """
    runs = list(plan)
    for number, run in enumerate(runs, 1):
        where = {"run": f"{number} of {len(runs)}", "variant": run.variant, "seed": run.seed}
        if run.is_finished:
            log.info("finished before", **where)
            continue
        log.info("training", **where, folder=str(run.folder))
        _share_evaluations(plan, run)
        (launch or train_in_process)(plan, run)
        if not run.is_finished:
            raise UserError(f"The run in {str(run.folder)!r} ended without {AFTER}. Run the ablation again.")


def train_in_process(plan: AblationPlan, run: AblationRun) -> None:
    """Train one run by `worldr1 train` in a process of its own, or in several.

    Raises:
        UserError: The process failed.
    """
    command = [sys.executable, "-c", PROGRAM, "train", str(plan.manifest), "--output-dir", str(run.folder)]
    if plan.num_processes > 1:
        count = str(plan.num_processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", count, "--no-python", *command]
    if run.is_started:
        command.append("--resume")
    for override in run.overrides:
        command += ["--set", override]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environment)
    if done.returncode != 0:
        raise UserError(
            f"Training of variant {run.variant!r} with seed {run.seed} failed with exit code {done.returncode}; its "
            "messages are above. Fix the cause and run the ablation again: finished runs are kept, and this one is "
            "continued from its last checkpoint."
        )


def _variants(path: Path, section: object) -> dict[str, list[str]]:
    if not isinstance(section, VariantsSection):
        raise ManifestError(
            f"{path}: an ablation needs a section `variants`, e.g. `variants: {{full: {{}}, no warped noise: {{noise: "
            "null}}`."
        )
    return section.overrides()


def _choose(known: Mapping[str, Sequence[str]], only: Sequence[str]) -> list[str]:
    for name in only:
        if name not in known:
            raise UserError(f"Unknown variant {name!r}. Allowed: {list(known)}.{suggest(name, list(known))}")
    return list(dict.fromkeys(only)) or list(known)


def _check_seeds(seeds: Sequence[int]) -> list[int]:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"seeds must be one or more different numbers of at least 0, received {list(seeds)!r}.")
    return list(seeds)


def _folder_names(variants: Sequence[str]) -> dict[str, str]:
    names = {variant: re.sub(r"[^\w.-]+", "-", variant).strip("-.") or "variant" for variant in variants}
    for variant, name in names.items():
        same = [other for other, own in names.items() if own.lower() == name.lower()]
        if len(same) > 1:
            raise UserError(f"The variants {same} would share the folder {name!r}. Rename {variant!r}.")
    return names


def _check_runs(plan: AblationPlan, registry: Registry) -> None:
    """Plan every run as `worldr1 train` will, so that a mistake in the last one shows before the first one starts.

    Raises:
        UserError: A run cannot be trained, is not evaluated, or its evaluation cannot be compared with the baseline's.
    """
    prompts: Sequence[str] | None = None
    for run in plan:
        try:
            planned = plan_run(
                plan.manifest,
                registry,
                overrides=run.overrides,
                output_dir=run.folder,
                resume=run.is_started,
            )
        except WorldR1Error as error:
            raise UserError(f"Variant {run.variant!r}: {error}") from error
        own = _evaluation_prompts(run, planned)
        prompts = own if prompts is None else prompts
        if own != prompts:
            raise UserError(
                f"Variant {run.variant!r} is evaluated on other prompts than {plan.baseline!r}, and cannot be compared "
                "with it. Leave prompts and num_seeds of train.evaluation as they are."
            )


def _evaluation_prompts(run: AblationRun, planned: TrainingPlan) -> list[str]:
    if planned.evaluation is None:
        raise UserError(f"Variant {run.variant!r} is not evaluated. Add `train.evaluation` to the manifest.")
    return planned.evaluation_prompts(planned.evaluation)


def _share_evaluations(plan: AblationPlan, run: AblationRun) -> None:
    """Take over the baseline's evaluations of the untrained model if nothing that they depend on has changed."""
    source = next((one for one in plan.runs[plan.baseline] if one.seed == run.seed), None)
    if source is None or run.variant == plan.baseline:
        return
    keys = {override.partition("=")[0] for override in {*run.overrides} ^ {*source.overrides}}
    if not all(key == "noise" or key.startswith("noise.") or _concerns_training(key) for key in keys):
        return
    has_other_noise = any(key.split(".")[0] == "noise" for key in keys)
    for name in (BEFORE,) if has_other_noise else (BEFORE, NOISE_ONLY):
        if (source.folder / name).exists() and not (run.folder / name).exists():
            run.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.folder / name, run.folder / name)


def _concerns_training(key: str) -> bool:
    """Whether a key of the manifest has no influence on the untrained model and its evaluation."""
    parts = key.split(".")
    if parts[0] == "train":
        return len(parts) > 1 and parts[1] not in ("evaluation", "precision")
    return parts[0] == "rewards" and parts[-1] == "weight"
