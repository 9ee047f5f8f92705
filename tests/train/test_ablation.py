"""`worldr1 ablate`: variants of a manifest, trained on the fake world in this process."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner

from train.sites import COMPONENTS, MANIFEST, write_prompts
from worldr1_core.errors import ManifestError, UserError
from worldr1_core.plugins import Installed
from worldr1_train import ablation
from worldr1_train.ablation import plan_ablation, run_ablation
from worldr1_train.ablation_files import save_ablation
from worldr1_train.ablation_results import NO_TRAINING, read_ablation
from worldr1_train.cli_ablate import ablate
from worldr1_train.evaluation import AFTER, BEFORE, Evaluation, compare
from worldr1_train.plan import plan_run
from worldr1_train.run import TrainingRun

VARIANTS = """
noise: {name: fake-noise}
variants:
  full: {}
  no redness: {rewards.1.weight: 0}
  plain/noise: {noise: null}
"""
KINDS = {**COMPONENTS, "manifest section": {**COMPONENTS["manifest section"]}}
KINDS["manifest section"]["variants"] = "worldr1_train.variants_section:VariantsSection"
SMALL = ("train.max_steps=2", "train.evaluation.diversity=null")


@pytest.fixture
def registry(make_registry):
    return make_registry(KINDS)


@pytest.fixture
def manifest(tmp_path):
    write_prompts(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(MANIFEST + VARIANTS, encoding="utf-8")
    return path


@pytest.fixture
def launched(registry):
    """Trains in this process; `launched.runs` are the names of the folders."""

    def launch(plan, run):
        launch.runs.append(run.folder.name)
        planned = plan_run(
            plan.manifest, registry, overrides=run.overrides, output_dir=run.folder, resume=run.is_started
        )
        TrainingRun(planned).execute()

    launch.runs = []
    return launch


@pytest.mark.slow
def test_variants_are_trained_compared_and_not_run_again(manifest, registry, launched, tmp_path):
    def plan(seeds):
        only = ["full", "no redness"]
        return plan_ablation(manifest, registry, output_dir=tmp_path / "out", seeds=seeds, only=only, overrides=SMALL)

    run_ablation(plan([0]), launched)
    assert launched.runs == ["full-0", "no-redness-0"]
    launched.runs.clear()
    both = plan([0, 1])
    run_ablation(both, launched)
    assert launched.runs == ["full-1", "no-redness-1"], "finished runs are kept"
    result = read_ablation(both)
    assert list(result.variants) == [NO_TRAINING, "full", "no redness"]
    own = result.variants["no redness"]["brightness"]
    files = {
        name: [Evaluation.load(tmp_path / "out" / f"{name}-{seed}" / AFTER).values["brightness"] for seed in (0, 1)]
        for name in ("full", "no-redness")
    }
    pairs = [
        after - other
        for afters, others in zip(files["no-redness"], files["full"], strict=True)
        for after, other in zip(afters, others, strict=True)
    ]
    assert own.difference.mean == pytest.approx(sum(pairs) / len(pairs))
    assert own.difference.num_pairs == len(pairs) == 8
    assert result.variants["full"]["brightness"].difference is None
    first = compare(*(Evaluation.load(tmp_path / "out" / "full-0" / name) for name in (BEFORE, AFTER)))
    assert result.variants["full"]["brightness"].by_seed[0] == first["brightness"].mean
    shared = [(tmp_path / "out" / f"{name}-0" / BEFORE).read_bytes() for name in ("full", "no-redness")]
    assert shared[0] == shared[1]
    _check_files(save_ablation(result, both), result)


def _check_files(paths, result):
    found = {path.name: path for path in paths}
    document = json.loads(found["ablation.json"].read_text(encoding="utf-8"))
    assert document["variants"]["full"]["brightness"]["after"] == round(result.variants["full"]["brightness"].after, 4)
    with found["ablation.csv"].open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * len(result.metrics)
    assert float(rows[0]["after"]) == pytest.approx(result.variants[NO_TRAINING][rows[0]["metric"]].after)
    assert "## Difference from full" in found["ablation.md"].read_text(encoding="utf-8")
    assert r"shine\_accuracy" in found["ablation.tex"].read_text(encoding="utf-8")
    assert found["ablation.png"].read_bytes().startswith(b"\x89PNG")
    assert {"curves-full.png", "curves-no-redness.png"} <= found.keys()


def test_an_interrupted_run_is_continued(manifest, registry, launched, tmp_path, monkeypatch):
    plan = plan_ablation(manifest, registry, output_dir=tmp_path / "out", only=["full"], overrides=SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_train", lambda self, watch: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_ablation(plan, launched)
    (run,) = plan
    assert run.is_started
    assert not run.is_finished
    run_ablation(plan, launched)
    assert run.is_finished
    changed = (*SMALL, "train.optimiser.learning_rate=0.02")
    with pytest.raises(UserError, match=r"Variant 'full'.*another manifest.*optimiser.learning_rate"):
        plan_ablation(manifest, registry, output_dir=tmp_path / "out", only=["full"], overrides=changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  full: {}\n", "  full: {train.max_stepss: 2}\n", "Variant 'full': .*max_stepss"),
        ("noise: null", "train.evaluation.num_seeds: 2", "Variant 'plain/noise' is evaluated on other prompts"),
        ("noise: null", "train.evaluation: null", "Variant 'plain/noise' is not evaluated"),
        ("  full: {}\n", "  full: {seed: 3}\n", "'seed' cannot be changed by a variant"),
        ("plain/noise", "No redness", "would share the folder"),
    ],
)
def test_mistakes_show_before_the_first_run(manifest, registry, tmp_path, old, new, message):
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises((UserError, ManifestError), match=message):
        plan_ablation(manifest, registry, output_dir=tmp_path / "out")


def test_unknown_variants_and_seeds(manifest, registry, tmp_path):
    with pytest.raises(UserError, match=r"Unknown variant 'ful'.*Did you mean 'full'"):
        plan_ablation(manifest, registry, output_dir=tmp_path / "out", only=["ful"])
    with pytest.raises(UserError, match="seeds must be one or more different numbers"):
        plan_ablation(manifest, registry, output_dir=tmp_path / "out", seeds=[1, 1])
    manifest.write_text(MANIFEST, encoding="utf-8")
    with pytest.raises(ManifestError, match="needs a section `variants`"):
        plan_ablation(manifest, registry, output_dir=tmp_path / "out")


def test_command(manifest, registry, launched, tmp_path, monkeypatch):
    monkeypatch.setattr("worldr1_core.plugins.installed", lambda: Installed(registry))
    monkeypatch.setattr(ablation, "train_in_process", launched)
    arguments = [str(manifest), "--output-dir", str(tmp_path / "out"), "--seeds", "3", "--variant", "no redness"]
    arguments += [f"--set={value}" for value in SMALL]
    done = CliRunner().invoke(ablate, arguments, catch_exceptions=False, standalone_mode=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["baseline"], result["seeds"]) == ("no redness", [3])
    assert "## After training" in done.stderr
    with pytest.raises(UserError, match="--seeds takes whole numbers"):
        CliRunner().invoke(ablate, [str(manifest), "--seeds", "a"], catch_exceptions=False, standalone_mode=False)


def test_several_processes_of_the_command_itself_are_refused(manifest, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"WORLD_SIZE=2.*with --processes 2"):
        CliRunner().invoke(ablate, [str(manifest)], catch_exceptions=False, standalone_mode=False)
