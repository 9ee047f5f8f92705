"""Prompts from a file, a folder, a dataset on the hub, a list, or a dataset object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worldr1_core.errors import ManifestError, UserError, shorten, suggest
from worldr1_core.prompt_files import read_prompts
from worldr1_train.section import EvaluationSection

FILES: Mapping[str, str] = {"main": "train.txt"}
"""Split -> its file in a folder or dataset, if not `<split>.txt` (layout of `microsoft/World-R1`)."""

MAIN = "main"
"""Split of stages that name no other split."""

COLUMN = "prompt"
"""Column of a dataset that contains the prompts."""

PromptsLike = str | Path | Iterable[str] | Iterable[Mapping[str, Any]]
"""Prompts: a list, a file or folder or hub id as in a manifest, or a dataset with a column `prompt`."""


def choose_prompts(prompts: PromptsLike | Mapping[str, PromptsLike]) -> dict[str, list[str]]:
    """Convert prompts of any form to lists of texts.

    Args:
        prompts: Prompts in any form; or a mapping split -> prompts, for stages and evaluations that name a split.

    Returns:
        Split -> prompts; the split is `"main"` unless `prompts` is a mapping.

    Raises:
        UserError: A value is not a prompt, or a file cannot be read.
    """
    if isinstance(prompts, Mapping):
        return {split: read_prompts_of(given, split) for split, given in prompts.items()}
    return {MAIN: read_prompts_of(prompts, MAIN)}


def read_prompts_of(prompts: PromptsLike, split: str) -> list[str]:
    """Convert the prompts of one split; see `choose_prompts`."""
    if isinstance(prompts, str | Path):
        return load_split({split: str(prompts)}, split, Path())
    columns = getattr(prompts, "column_names", None)
    if columns is not None and COLUMN not in columns:
        raise UserError(f"A dataset of prompts needs a column {COLUMN!r}; received the columns {sorted(columns)}.")
    if not isinstance(prompts, Iterable):
        raise UserError(
            f"prompts must be a list of texts, a file, or a dataset with a column {COLUMN!r}; received "
            f"{shorten(prompts)}."
        )
    return [_as_prompt(row) for row in prompts]


def _as_prompt(row: Any) -> str:
    text = row.get(COLUMN) if isinstance(row, Mapping) else row
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"A prompt must be a non-empty text, received {shorten(row)}.")
    return text


def load_split(prompts: Mapping[str, str], split: str, base: Path) -> list[str]:
    """Load the prompts of a split.

    Args:
        prompts: The manifest's `prompts`: split -> text file, folder with `train.txt`, `dynamic.txt` and `test.txt`, or
            id of a dataset on the hub with these files.
        split: Key of `prompts`.
        base: Folder that relative paths start from.

    Raises:
        ManifestError: The split is unknown.
        UserError: The file of the split cannot be read, or contains no prompt.
    """
    if split not in prompts:
        known = sorted(prompts)
        raise ManifestError(
            f"Unknown prompt split {split!r}. The manifest's prompts: {known}.{suggest(split, known)} "
            f"Add `prompts: {{{split}: FILE}}`."
        )
    name, place = FILES.get(split, f"{split}.txt"), prompts[split]
    path = (base / place).expanduser()
    if path.is_dir():
        return read_prompts(path / name)
    if path.exists() or not _is_hub_id(place):
        return read_prompts(path)
    return read_prompts(_download(place, name))


def evaluation_prompts(section: EvaluationSection, prompts: Sequence[str]) -> list[str]:
    """Return one prompt per video of an evaluation: the first `num_prompts` prompts, repeated `num_seeds` times."""
    return list(prompts[: section.num_prompts]) * section.num_seeds


def _is_hub_id(place: str) -> bool:
    owner, _, name = place.partition("/")
    return bool(owner.strip(".")) and bool(name) and "/" not in name and not Path(name).suffix


def _download(dataset: str, name: str) -> str:
    from transformers.utils import cached_file

    try:
        path = cached_file(dataset, name, repo_type="dataset")
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"Prompts {dataset!r} are not a local file or folder, and cannot be loaded as a dataset from the hub: "
            f"{reason}"
        ) from error
    return str(path)
