"""Virtual environments of workers, made by uv and kept by the content of their specification."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from worldr1_core.errors import UserError
from worldr1_core.log import get_logger

log = get_logger(__name__)

CACHE_VARIABLE = "WORLDR1_CACHE_DIR"
ALLOW_VARIABLE = "WORLDR1_ALLOW_PACKAGES"
OWN = "worldr1-rewards"
CORE = "worldr1-core"
WITHOUT_REQUIREMENTS = {"hpsv3": "hpsv3==1.0.0"}
"""Extras of environments that are one package without what it requires. Of hpsv3 only the instruction is read, as text;
its requirements exclude ours."""
_READY = "ready.json"


class EnvironmentOptions(BaseModel):
    """Specification of a virtual environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    python: str | None = Field(
        default=None,
        pattern=r"^3\.\d{1,2}(\.\d{1,2})?$",
        description="Version of Python; null for that of this process.",
    )
    extras: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]] = Field(
        default_factory=list,
        max_length=20,
        description="Extras of worldr1-rewards, such as `da3` or `hps`; `hpsv3` is the instruction of HPSv3.",
    )
    packages: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][^\n#]*$", max_length=500)]] = Field(
        default_factory=list,
        max_length=100,
        description="Further requirements, such as `acme-rewards>=2`. Needs the variable WORLDR1_ALLOW_PACKAGES=1.",
    )


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Contents of an environment.

    Attributes:
        python: Version of Python.
        requirements: Installed together.
        bare: Installed afterwards, without what they require.
    """

    python: str
    requirements: list[str]
    bare: list[str]

    @property
    def document(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "bare" or value}

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()[:24]


def cache_folder() -> Path:
    """Folder of the environments: `$WORLDR1_CACHE_DIR/environments`, by default under `~/.cache/worldr1`."""
    chosen = os.environ.get(CACHE_VARIABLE)
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worldr1"
    return base / "environments"


def make_environment(options: EnvironmentOptions, plugins: Sequence[str] = ()) -> Path:
    """Make an environment, or find the one that was made for the same specification.

    Args:
        options: Its specification.
        plugins: Installed distributions that it needs in the version of this process, besides worldr1-rewards.

    Returns:
        Its Python interpreter.

    Raises:
        UserError: uv is missing or cannot make the environment (the message is uv's), or `packages` are not permitted.
    """
    _check_allowed(options)
    uv = shutil.which("uv")
    if uv is None:
        raise UserError("The environment of a worker is made by uv, which is not installed. Install it: pip install uv")
    recipe = _recipe(uv, options, plugins)
    folder = cache_folder() / recipe.digest
    python = folder / "venv" / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if (folder / _READY).is_file() and python.exists():
            return python
        start = time.monotonic()
        shown = {"extras": options.extras, "packages": options.packages}
        log.info("making the environment of a worker", folder=str(folder), python=recipe.python, **shown)
        _build(uv, recipe, folder, python)
        document = {**recipe.document, **shown}
        (folder / _READY).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        log.info("environment ready", folder=str(folder), seconds=round(time.monotonic() - start, 1))
    return python


def made_environments() -> list[dict[str, Any]]:
    """Environments that are ready: `environment`, `python`, `extras`, `packages` and `path`."""
    rows = []
    for ready in sorted(cache_folder().glob(f"*/{_READY}")):
        document = json.loads(ready.read_text(encoding="utf-8"))
        row = {key: document.get(key, []) for key in ("python", "extras", "packages")}
        rows.append({"environment": ready.parent.name, **row, "path": str(ready.parent)})
    return rows


def _check_allowed(options: EnvironmentOptions) -> None:
    """Refuse packages that a manifest names, unless the user permits it: to install a package runs its code."""
    if options.packages and os.environ.get(ALLOW_VARIABLE) != "1":
        raise UserError(
            f"The manifest installs {options.packages} into the environment of a worker, and installing a package runs "
            f"its code. If you trust the manifest, set the environment variable {ALLOW_VARIABLE}=1."
        )


def _recipe(uv: str, options: EnvironmentOptions, plugins: Sequence[str]) -> _Recipe:
    known = [extra for extra in options.extras if extra not in WITHOUT_REQUIREMENTS]
    return _Recipe(
        python=options.python or f"{sys.version_info.major}.{sys.version_info.minor}",
        requirements=[*_requirements(uv, sorted({"serve", *known}), plugins), *options.packages],
        bare=sorted({WITHOUT_REQUIREMENTS[extra] for extra in options.extras if extra in WITHOUT_REQUIREMENTS}),
    )


def _build(uv: str, recipe: _Recipe, folder: Path, python: Path) -> None:
    (folder / "requirements.txt").write_text("\n".join(recipe.requirements) + "\n", encoding="utf-8")
    shutil.rmtree(folder / "venv", ignore_errors=True)
    _run([uv, "venv", "--quiet", "--no-project", "--python", recipe.python, str(folder / "venv")])
    install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    _run([*install, "-r", str(folder / "requirements.txt")])
    if recipe.bare:
        _run([*install, "--no-deps", "--no-build", *recipe.bare])


def _requirements(uv: str, extras: Sequence[str], plugins: Sequence[str]) -> Iterator[str]:
    """Requirements: the versions of the lock file in a checkout, else those that the packages declare."""
    source = _source(OWN)
    lock = None if source is None else next((p for p in source.parents if (p / "uv.lock").is_file()), None)
    others = sorted({*plugins} - {OWN, CORE})
    if lock is None:
        for name, wanted in ((CORE, ""), (OWN, f"[{','.join(extras)}]")):
            yield _requirement(name, wanted)
    else:
        members = [name for name in others if (place := _source(name)) is not None and lock in place.parents]
        yield from _locked_requirements(uv, lock, [OWN, *members], extras)
        others = [name for name in others if name not in members]
    for name in others:
        yield _requirement(name, "")


def _locked_requirements(uv: str, lock: Path, members: Sequence[str], extras: Sequence[str]) -> Iterator[str]:
    """Requirements of members of the workspace in the folder `lock`, with the versions of its lock file."""
    packages = [flag for name in members for flag in ("--package", name)]
    flags = [*packages, *(flag for extra in extras for flag in ("--extra", extra))]
    text = _run([uv, "export", "--quiet", "--frozen", *flags, "--no-hashes", "--no-header", "--no-annotate"], lock)
    for line in text.splitlines():
        local = line.removeprefix("-e ").removeprefix("./") if line.startswith("-e ./") else None
        yield line if local is None else f"-e {lock / local}"


def _requirement(name: str, extras: str) -> str:
    source = _source(name)
    return f"{name}{extras}=={metadata.version(name)}" if source is None else f"-e {source}{extras}"


def _source(name: str) -> Path | None:
    """Folder of a distribution that is installed from a checkout in editable form, or `None`."""
    text = metadata.distribution(name).read_text("direct_url.json")
    document = json.loads(text) if text else {}
    if not document.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(document["url"]).path))


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise UserError(f"uv cannot make the environment of a worker ({' '.join(command[1:3])}):\n{said}")
    return done.stdout


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make an environment; the others wait and find it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that makes the environment", folder=str(path.parent))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
