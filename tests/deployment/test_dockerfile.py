"""The Dockerfile, as far as it can be checked without an engine: sources, programs, options, user and health check."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess

import pytest

from deployment.commands import ROOT, split
from serving.conftest import manifest, server, start_server  # noqa: F401 - fixtures

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
KEYWORDS = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
PROGRAMS = {"pip", "uv", "useradd", "mkdir", "chown"}
"""Programs that RUN may use: of the base image, or installed by an earlier instruction."""


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def given(keyword: str) -> list[str]:
    return [rest for word, rest in instructions() if word == keyword]


def included(path: str) -> bool:
    """Return True if .dockerignore leaves a path in the context; the last pattern that matches decides."""
    result = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        names = parts if "**/" in line else prefixes
        if any(fnmatch.fnmatch(name, pattern) for name in names):
            result = line.startswith("!")
    return result


def test_only_known_instructions_are_used():
    assert {word for word, _ in instructions()} <= KEYWORDS


def test_images_have_a_version_and_no_host():
    images = [line.split()[0] for line in given("FROM")]
    assert len(images) == 2
    assert all(re.fullmatch(r"python:3\.11-slim-[a-z]+", image) for image in images)
    assert (ROOT / ".python-version").read_text().strip() == "3.11"


def test_every_source_of_copy_exists_and_is_in_the_context():
    stages = {line.split()[2] for line in given("FROM") if " AS " in line}
    for line in given("COPY"):
        words = line.split()
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert included(source), source


def test_every_package_of_the_workspace_is_copied_before_its_dependencies_are_installed():
    before = TEXT[: TEXT.index("--no-install-workspace")]
    for path in ROOT.glob("packages/*/pyproject.toml"):
        assert f"COPY {path.relative_to(ROOT)} {path.parent.relative_to(ROOT)}/\n" in before


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "docs/index.md", "packages/a/src/__pycache__/x.pyc"]
)
def test_the_context_leaves_out_what_is_not_needed(path):
    assert not included(path)


def test_commands_use_programs_that_are_there():
    commands = [split(part) for line in given("RUN") for part in line.split("&&")]
    assert {command[0] for command in commands} <= PROGRAMS
    assert commands[0][:2] == ["pip", "install"]
    assert any(word.startswith("uv>=") for word in commands[0])


def test_options_of_uv_exist():
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    known = subprocess.run(["uv", "sync", "--help"], capture_output=True, text=True, check=True).stdout
    for line in given("RUN"):
        if line.startswith("uv sync"):
            assert all(option in known for option in split(line)[2:])
            assert "--frozen" in line


def test_the_program_does_not_run_as_root():
    words = [word for word, _ in instructions()]
    assert given("USER") == ["worldr1"]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert words.index("RUN", len(words) - 1 - words[::-1].index("FROM")) < words.index("USER")
    assert "--uid 10001" in given("RUN")[-1]


def test_the_health_check_asks_a_route_of_the_server(server):  # noqa: F811
    import sys

    command = json.loads(given("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    code = command[2].replace("http://127.0.0.1:8100", server.url)
    assert code != command[2]
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", command[2].replace(":8100", ":1")], check=False).returncode != 0


def test_the_default_port_of_the_server_is_that_of_the_image():
    from worldr1_rewards.cli_serve import serve

    port = next(option.default for option in serve.params if option.name == "port")
    assert given("EXPOSE") == [str(port)]
    assert json.loads(given("ENTRYPOINT")[0]) == ["worldr1"]
