"""`worldr1 new-plugin`: a complete package with a new component, which passes its tests as generated."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from string import Template

import click

from worldr1_core import __version__
from worldr1_core.errors import OutputError, UserError

KINDS = ("reward", "reconstructor", "judge", "objective")
PREFIX = "worldr1-"
MAX_LENGTH = 26
"""Longest NAME: module, class and registration then fit on one line."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED = {"core", "rewards", "backbones", "train", "workspace"}
_USAGE = {
    "reward": "rewards:\n  - {name: $name, weight: 1.0}",
    "reconstructor": "reconstructor: {name: $name}\nrewards:\n  - {name: reconstruction}",
    "judge": "judge: {name: $name}\nreconstructor: {name: direct}\nrewards:\n  - {name: meta-view}",
    "objective": (
        "# for `worldr1 train`, with worldr1-backbones, worldr1-rewards and worldr1-train\n"
        "backbone: {name: tiny-wan, guidance_scale: 1.0}\n"
        "sampler: {name: flow-sde, num_inference_steps: 6, window: 0}\n"
        "reconstructor: {name: direct}\n"
        "rewards:\n  - {name: camera-move-likelihood}\n"
        "prompts: {main: prompts.txt, test: prompts.txt}  # one prompt per line\n"
        "train:\n  stages:\n    - {steps: 8}\n  objective: {name: $name}"
    ),
}


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="reward", show_default=True, help="What it registers.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where the package folder is made.  [default: .]",
)
def new_plugin(name: str, kind: str, folder: Path) -> None:
    """Write the package worldr1-NAME with a component called NAME, its tests and its entry point."""
    target, files = write_plugin(name, kind, folder)
    steps = [f"pip install -e '{target}[test]'", f"pytest {target}", "worldr1 plugins"]
    click.echo(json.dumps({"plugin": str(target), "kind": kind, "files": files, "next": steps}))


def write_plugin(name: str, kind: str, folder: Path) -> tuple[Path, list[str]]:
    """Write the package; leave nothing behind on failure.

    Args:
        name: Name in manifests, with or without `worldr1-` before it: lower-case words joined by hyphens.
        kind: One of `KINDS`.
        folder: Where the package folder `worldr1-NAME` is made.

    Returns:
        The package folder, and its files relative to it.

    Raises:
        UserError: The name cannot be used, or the component exists already.
        OutputError: The folder exists, or cannot be written to.
    """
    from worldr1_core.files import atomic_folder

    name = check_name(name, kind)
    target = folder / f"{PREFIX}{name}"
    if target.exists() or target.is_symlink():
        raise OutputError(f"{str(target)!r} exists already. Choose another name or another --dir.")
    contents = render_plugin(name, kind)
    with atomic_folder(target) as temporary:
        for path, text in contents.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(text, encoding="utf-8")
    return target, sorted(contents)


def check_name(name: str, kind: str) -> str:
    """The name of the component in manifests, without `worldr1-`.

    Raises:
        UserError: It is no lower-case words joined by hyphens, is too long, is ours, or is registered already.
    """
    from worldr1_core.plugins import installed

    short = name.removeprefix(PREFIX)
    if not _NAME.fullmatch(short) or len(short) > MAX_LENGTH:
        fixed = re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-0123456789")[:MAX_LENGTH].strip("-")
        hint = f" Try {fixed!r}." if _NAME.fullmatch(fixed) else ""
        raise UserError(
            f"A plugin's name is lower-case words of letters and digits joined by hyphens, at most {MAX_LENGTH} "
            f"characters, such as 'exposure-stability'; received {name!r}.{hint}"
        )
    if short in _RESERVED:
        raise UserError(f"{PREFIX + short!r} is one of our own packages. Choose another name than {name!r}.")
    registry = installed().registry
    if short in registry.names(kind):
        owners = {str(entry.owner) for entry in registry.entries() if (entry.kind, entry.name) == (kind, short)}
        raise UserError(f"The {kind} {short!r} is registered by {', '.join(sorted(owners))}. Choose another name.")
    return short


def render_plugin(name: str, kind: str) -> dict[str, str]:
    """The package's files.

    Args:
        name: From `check_name`.
        kind: One of `KINDS`.

    Returns:
        Path relative to the package folder -> text.
    """
    module = (PREFIX + name).replace("-", "_")
    words = "".join(word.capitalize() for word in name.split("-"))
    values = {
        "name": name,
        "kind": kind,
        "distribution": PREFIX + name,
        "module": module,
        "cls": words if words.endswith(kind.capitalize()) else words + kind.capitalize(),
        "version": __version__,
    }
    values["usage"] = Template(_USAGE[kind]).substitute(values)
    templates = {
        f"{module}.py": f"{kind}.py.tmpl",
        f"tests/test_{name.replace('-', '_')}.py": f"test_{kind}.py.tmpl",
        "pyproject.toml": "pyproject.toml.tmpl",
        "README.md": "README.md.tmpl",
        ".gitignore": "gitignore.tmpl",
    }
    folder = resources.files("worldr1_core") / "templates"
    return {
        path: Template((folder / source).read_text(encoding="utf-8")).substitute(values)
        for path, source in templates.items()
    }
