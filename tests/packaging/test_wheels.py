"""The wheels as a user gets them: built, installed alone in an empty environment, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.probes.world.clips import render_world

ROOT = Path(__file__).parents[2]
PACKAGES = ("worldr1-core", "worldr1-rewards", "worldr1-backbones", "worldr1-train")

pytestmark = pytest.mark.slow


def uv(*args: object) -> None:
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "uv is not on PATH; run the tests with `uv run pytest`"
    done = subprocess.run([program, *map(str, args)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    uv("build", "--wheel", "--all-packages", "--out-dir", folder)
    return folder


def install(package: str, wheels: Path, folder: Path) -> Path:
    """A new environment with one package and what it depends on; its `bin` folder."""
    uv("venv", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    uv("pip", "install", "--python", python, "--find-links", wheels, f"{package}=={_version(package, wheels)}")
    return folder / "bin"


def _version(package: str, wheels: Path) -> str:
    (wheel,) = wheels.glob(f"{package.replace('-', '_')}-*.whl")
    return wheel.name.split("-")[1]


def run(bin_folder: Path, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    environment = {**clean, **{k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}}
    return subprocess.run(
        [str(bin_folder / "worldr1"), *map(str, args)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_worldr1_rewards_alone_scores_an_mp4(wheels: Path, tmp_path: Path) -> None:
    bin_folder = install("worldr1-rewards", wheels, tmp_path / "environment")
    world = render_world("mixed", "move right", size=(64, 64), num_frames=9)
    write_video(Video(world.frames), tmp_path / "clip.mp4")
    done = run(bin_folder, "score", "clip.mp4", "--prompt", world.prompt, "--report", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["total"] > 0
    assert (tmp_path / "page.html").exists()
    write_video(Video(world.frames), tmp_path / "videos" / f"{world.prompt}-0.mp4")
    (tmp_path / "prompts.txt").write_text(world.prompt, encoding="utf-8")
    sets = ("--videos", "A=videos", "--prompts", "prompts.txt", "--metrics", "psnr", "--workers", "1", "--out", "out")
    done = run(bin_folder, "eval", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["means"]["A"]["psnr"] > 20
    assert "pip install worldr1-train" in run(bin_folder, "eval", "manifest.yaml", cwd=tmp_path).stderr
    for absent in ("trl", "diffusers", "nerfstudio", "accelerate", "pytest"):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({absent!r}) is not None)"
        assert subprocess.run([bin_folder / "python", "-c", code], check=False).returncode == 0, (
            f"{absent} is installed"
        )


@pytest.mark.parametrize("package", PACKAGES)
def test_each_wheel_installs_alone_and_registers(package: str, wheels: Path, tmp_path: Path) -> None:
    bin_folder = install(package, wheels, tmp_path / "environment")
    done = run(bin_folder, "plugins", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {p["distribution"] for p in report["plugins"]} == {"worldr1-core", package}
    assert report["failures"] == []
    assert run(bin_folder, "--help", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_each_wheel_carries_its_data(package: str, wheels: Path) -> None:
    (wheel,) = wheels.glob(f"{package.replace('-', '_')}-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("/py.typed") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    folder = ROOT / "packages" / package / "src"
    kept = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert kept <= set(names)
