"""Where a manifest's prompts come from: a file, a folder, or a dataset of the hub, each with one prompt a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from worldr1_core.errors import ManifestError, UserError, suggest
from worldr1_core.prompt_files import read_prompts
from worldr1_train.section import EvaluationSection

FILES: Mapping[str, str] = {"main": "train.txt"}
"""Split -> its file in a folder or dataset, where that is not `<split>.txt` (layout of `microsoft/World-R1`)."""


def load_split(prompts: Mapping[str, str], split: str, base: Path) -> list[str]:
    """The prompts of a split.

    Args:
        prompts: The manifest's `prompts`: split -> text file, folder with `train.txt`, `dynamic.txt`, `test.txt`, or id
            of a dataset on the hub that holds these files.
        split: A key of it.
        base: Folder that relative paths start from.

    Raises:
        ManifestError: There is no such split.
        UserError: Its file cannot be read, or holds no prompt.
    """
    if split not in prompts:
        known = sorted(prompts)
        raise ManifestError(
            f"Unknown prompts {split!r}. The manifest's prompts: {known}.{suggest(split, known)} "
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
    """One prompt per video of an evaluation: its first `num_prompts`, `num_seeds` times over."""
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
            f"Prompts {dataset!r} are no file or folder here, and no dataset that could be had: {reason}"
        ) from error
    return str(path)
