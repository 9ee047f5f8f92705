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
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from worldr1_core.errors import UserError
from worldr1_core.log import get_logger

log = get_logger(__name__)

CACHE_VARIABLE = "WORLDR1_CACHE_DIR"
OWN = "worldr1-rewards"
CORE = "worldr1-core"
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
        default_factory=list, max_length=20, description="Extras of worldr1-rewards, such as `da3` or `hps`."
    )
    packages: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][^\n#]*$", max_length=500)]] = Field(
        default_factory=list, max_length=100, description="Further requirements, such as `acme-rewards>=2`."
    )


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
        UserError: uv is missing, or cannot make the environment; the message is uv's.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise UserError("The environment of a worker is made by uv, which is not installed. Install it: pip install uv")
    version = options.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    requirements = list(_requirements(uv, options, plugins))
    specification = {"python": version, "requirements": requirements}
    digest = hashlib.sha256(json.dumps(specification, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder() / digest
    python = folder / "venv" / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if (folder / _READY).is_file() and python.exists():
            return python
        log.info("making the environment of a worker", folder=str(folder), extras=options.extras, python=version)
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "venv", ignore_errors=True)
        _run([uv, "venv", "--quiet", "--no-project", "--python", version, str(folder / "venv")])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(folder / "requirements.txt")])
        (folder / _READY).write_text(json.dumps(specification, indent=1) + "\n", encoding="utf-8")
        log.info("environment ready", folder=str(folder))
    return python


def _requirements(uv: str, options: EnvironmentOptions, plugins: Sequence[str]) -> Iterator[str]:
    """Requirements: the versions of the lock file in a checkout, else those that the packages declare."""
    extras = sorted({"serve", *options.extras})
    source = _source(OWN)
    lock = None if source is None else next((p for p in source.parents if (p / "uv.lock").is_file()), None)
    if lock is None:
        for name, wanted in ((CORE, ""), (OWN, f"[{','.join(extras)}]")):
            yield _requirement(name, wanted)
    else:
        flags = [flag for extra in extras for flag in ("--extra", extra)]
        command = [uv, "export", "--quiet", "--frozen", "--package", OWN, *flags]
        text = _run([*command, "--no-hashes", "--no-header", "--no-annotate"], lock)
        for line in text.splitlines():
            local = line.removeprefix("-e ").removeprefix("./") if line.startswith("-e ./") else None
            yield line if local is None else f"-e {lock / local}"
    for name in sorted({*plugins} - {OWN, CORE}):
        yield _requirement(name, "")
    yield from options.packages


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
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
