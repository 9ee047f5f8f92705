"""Prompts of an evaluation, from a text file, JSON lines or a JSON list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldr1_core.errors import UserError, shorten, suggest
from worldr1_core.prompt_files import read_prompt_file, split_lines

KEYS = ("prompt", "trajectory", "intrinsics", "scene")
"""Keys of a prompt in a JSON file; other keys, such as those of VBench's own lists, are left alone."""
VBENCH_KEY = "prompt_en"
"""Key of the prompt in VBench's `VBench_full_info.json`."""


@dataclass(frozen=True, slots=True)
class EvaluationPrompt:
    """A prompt that videos are generated from.

    Attributes:
        text: The prompt.
        trajectory: File of the commanded camera path; `None` takes the camera words of the prompt.
        intrinsics: File of the known intrinsics, or `None`.
        scene: Kind of scene by which results are split, e.g. `"static"` or `"non-rigid"`; `None` if it is not given.
    """

    text: str
    trajectory: Path | None = None
    intrinsics: Path | None = None
    scene: str | None = None


PromptsLike = str | os.PathLike[str] | Iterable[str | Mapping[str, Any] | EvaluationPrompt]
"""A prompt file, or prompts: texts, mappings with the keys `KEYS`, or `EvaluationPrompt` objects."""


def read_evaluation_prompts(prompts: PromptsLike) -> list[EvaluationPrompt]:
    """Read the prompts of an evaluation.

    Args:
        prompts: A file or a list. A `.jsonl` file has one JSON object (or string) per line, a `.json` file a list of
            them, with the key `prompt` (or `prompt_en`, as in VBench) and optionally `trajectory`, `intrinsics` (files,
            relative to the prompt file) and `scene`. Any other file is text with one prompt per line; blank lines and
            lines that start with `#` are left out.

    Raises:
        UserError: The file cannot be read, an entry is malformed, a prompt occurs twice, or there is none.
    """
    if isinstance(prompts, str | os.PathLike):
        path = Path(prompts)
        entries = _file_entries(path)
        found = [_entry(value, where, path.parent) for where, value in entries]
    else:
        found = [_entry(value, f"prompt {index}", Path()) for index, value in enumerate(prompts)]
    if not found:
        raise UserError("An evaluation needs at least one prompt, received none.")
    _check_unique(found)
    return found


def _file_entries(path: Path) -> list[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix not in (".json", ".jsonl"):
        return [(f"{path}: prompt {index}", text) for index, text in enumerate(read_prompt_file(path).prompts)]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Prompt file {str(path)!r} cannot be read as text: {error}.") from error
    if suffix == ".jsonl":
        lines = [(f"{path}:{number}", line) for number, line in enumerate(split_lines(text), 1) if line.strip()]
        return [(where, _parse(line, where)) for where, line in lines]
    entries = _parse(text, str(path))
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a JSON list of prompts, received {shorten(entries)}.")
    return [(f"{path}: entry {index}", value) for index, value in enumerate(entries)]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}.") from error


def _entry(value: Any, where: str, folder: Path) -> EvaluationPrompt:
    if isinstance(value, EvaluationPrompt):
        return value
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: a prompt is a string or an object with the keys {list(KEYS)}, received {value!r}.")
    text = value.get("prompt", value.get(VBENCH_KEY))
    if not isinstance(text, str) or not text.strip():
        hint = "".join(suggest(str(key), KEYS) for key in value if key not in KEYS)
        raise UserError(f"{where}: key 'prompt' must be a text that is not empty, received {shorten(text)}.{hint}")
    for key in KEYS[1:]:
        if not isinstance(value.get(key, ""), str | None):
            raise UserError(f"{where}: {key!r} must be text, received {shorten(value[key])}.")
    files = {key: folder / value[key] if value.get(key) else None for key in ("trajectory", "intrinsics")}
    for key, path in files.items():
        if path is not None and not Path(str(path).partition("#")[0]).exists():
            raise UserError(f"{where}: {key} {str(path)!r} does not exist. Paths are relative to the prompt file.")
    return EvaluationPrompt(
        " ".join(text.split()), files["trajectory"], files["intrinsics"], value.get("scene") or None
    )


def _check_unique(prompts: list[EvaluationPrompt]) -> None:
    seen: dict[str, int] = {}
    for index, prompt in enumerate(prompts):
        if prompt.text in seen:
            raise UserError(
                f"Prompts {seen[prompt.text]} and {index} are the same: {shorten(prompt.text)}. Keep one; several "
                "videos of a prompt are told apart by the number in their names, <prompt>-<n>.mp4."
            )
        seen[prompt.text] = index
