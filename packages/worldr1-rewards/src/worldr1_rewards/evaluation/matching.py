"""Matching of the videos of a folder with prompts, by name or by position.

By name, a video `<prompt>-<n>.mp4` (VBench's naming) belongs to its prompt and to seed n; `<prompt>.mp4` is seed 0.
File names cannot hold every prompt, so they are compared in three steps, each only for what the ones before leave open:

1. as they are (after Unicode normalisation, because file systems store accents differently);
2. by letters, marks and digits alone, because slashes, quotation marks and the like are replaced in file names;
3. as the beginning of a prompt, because long names are cut.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from worldr1_core.errors import UserError, shorten
from worldr1_core.video_io import FILE_SUFFIXES, find_videos

MIN_CUT = 30
"""Letters and digits that a cut name must have to count as the beginning of a prompt."""
NUM_SHOWN = 3
"""Names that an error lists."""

_SEED = re.compile(r"^(?P<prompt>.+)-(?P<seed>\d{1,9})$", re.DOTALL)
_NUMBERED = re.compile(r"^(?P<group>.*?\d+)[-_](?P<seed>\d{1,9})$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MatchedVideo:
    """A video with its prompt.

    Attributes:
        path: Video file or image folder.
        prompt: Index of the prompt.
        seed: Number of the video among those of the prompt, from its name.
    """

    path: Path
    prompt: int
    seed: int


def match_videos(folder: Path, prompts: Sequence[str]) -> list[MatchedVideo]:
    """Match every video of a folder with a prompt.

    If any name matches a prompt, all must. If none does, the videos belong to the prompts by position, in natural order
    of their names: one video per prompt, or several where all names end in `<i>-<n>` or `<i>_<n>`.

    Args:
        folder: Folder of videos; sub-folders are searched too.
        prompts: The prompts.

    Returns:
        Videos ordered by prompt and seed.

    Raises:
        UserError: A video matches no prompt, several prompts, or the same prompt and seed as another one; a prompt has
            no video; or the numbers differ.
        VideoError: The folder does not exist or holds no video.
    """
    paths = find_videos(folder)
    names = [_stem(path, folder) for path in paths]
    matcher = _Matcher(prompts)
    found = [matcher.find(name) for name in names]
    if any(found):
        matched = [_only(path, hits, prompts) for path, hits in zip(paths, found, strict=True) if hits]
        _check_all_matched(folder, [path for path, hits in zip(paths, found, strict=True) if not hits], len(matched))
    else:
        matched = _by_position(folder, paths, names, prompts)
    matched.sort(key=lambda video: (video.prompt, video.seed))
    _check_complete(folder, matched, prompts)
    return matched


def _stem(path: Path, folder: Path) -> str:
    """The path relative to the folder, with `/`, and without the suffix of a video file."""
    name = PurePosixPath(path.relative_to(folder) if path != folder else path.name)
    has_suffix = name.suffix.lower() in FILE_SUFFIXES or path.is_file()
    return str(name)[: -len(name.suffix)] if has_suffix and name.suffix else str(name)


class _Matcher:
    """Prompts by the three forms of their texts."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self.exact = _index(prompts, _normal)
        self.letters = _index(prompts, _letters)

    def find(self, name: str) -> list[tuple[int, int]]:
        """Return the (prompt, seed) pairs that a name may mean; the first step that finds any decides."""
        readings = [(text, seed) for form in _forms(name) for text, seed in _readings(form)]
        for look_up in (self._exactly, self._by_letters, self._by_beginning):
            hits = {(prompt, seed) for text, seed in readings for prompt in look_up(text)}
            if hits:
                return sorted(hits)
        return []

    def _exactly(self, text: str) -> list[int]:
        return self.exact.get(_normal(text), [])

    def _by_letters(self, text: str) -> list[int]:
        key = _letters(text)
        return self.letters.get(key, []) if key else []

    def _by_beginning(self, text: str) -> list[int]:
        key = _letters(text)
        if len(key) < MIN_CUT:
            return []
        return [index for other, indices in self.letters.items() if other.startswith(key) for index in indices]


def _index(prompts: Sequence[str], form: Callable[[str], str]) -> dict[str, list[int]]:
    index: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        index.setdefault(form(prompt), []).append(number)
    return index


def _forms(name: str) -> list[str]:
    """The name; also without its folders, which may be categories; and both with `%2F` and the like decoded."""
    forms = [name, name.rpartition("/")[2]]
    return list(dict.fromkeys([*forms, *(unquote(form) for form in forms if "%" in form)]))


def _readings(text: str) -> list[tuple[str, int]]:
    """A text as prompt with seed 0, and as `<prompt>-<seed>`."""
    numbered = _SEED.match(text)
    return [(text, 0), *([(numbered["prompt"], int(numbered["seed"]))] if numbered else [])]


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _letters(text: str) -> str:
    """Letters, marks and digits of any script, in lower case."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if unicodedata.category(character)[0] in "LMN")


def _only(path: Path, hits: list[tuple[int, int]], prompts: Sequence[str]) -> MatchedVideo:
    if len(hits) > 1:
        listed = "; ".join(f"{shorten(prompts[prompt])} (number {seed})" for prompt, seed in hits[:NUM_SHOWN])
        raise UserError(
            f"{path}: the name matches several prompts: {listed}. Rename the file so that it names one, or name all "
            "files of the folder by position (0000.mp4, 0001.mp4, ...)."
        )
    ((prompt, seed),) = hits
    return MatchedVideo(path, prompt, seed)


def _check_all_matched(folder: Path, others: list[Path], num_matched: int) -> None:
    if others:
        raise UserError(
            f"{folder}: {num_matched} of {num_matched + len(others)} videos are named after a prompt, but not "
            f"{_listed([other.name for other in others])}. Remove or rename these videos, or add their prompts to the "
            "prompt file."
        )


def _by_position(folder: Path, paths: list[Path], names: list[str], prompts: Sequence[str]) -> list[MatchedVideo]:
    if len(paths) == len(prompts):
        return [MatchedVideo(path, index, 0) for index, path in enumerate(paths)]
    numbered = [_NUMBERED.match(name) for name in names]
    groups = list(dict.fromkeys(match["group"] for match in numbered if match))
    if None in numbered or len(groups) != len(prompts):
        raise UserError(
            f"{folder}: holds {len(paths)} videos for {len(prompts)} prompts, and no video is named after its prompt "
            f"(first video: {paths[0].name!r}). Name the videos <prompt>-<n>.mp4; or give one video per prompt, in the "
            "order of the prompts; or several, named <number of the prompt>-<n>.mp4."
        )
    return [
        MatchedVideo(path, groups.index(match["group"]), int(match["seed"]))
        for path, match in zip(paths, numbered, strict=True)
        if match
    ]


def _check_complete(folder: Path, matched: Sequence[MatchedVideo], prompts: Sequence[str]) -> None:
    for before, after in itertools.pairwise(matched):
        if (before.prompt, before.seed) == (after.prompt, after.seed):
            raise UserError(
                f"{folder}: {before.path.name!r} and {after.path.name!r} are both number {before.seed} of the prompt "
                f"{shorten(prompts[before.prompt])}. Remove one of them."
            )
    missing = sorted(set(range(len(prompts))) - {video.prompt for video in matched})
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(prompts)} prompts have no video: "
            f"{_listed([prompts[index] for index in missing])}. Generate these videos, or remove the prompts from the "
            "prompt file."
        )


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - NUM_SHOWN} more" if len(texts) > NUM_SHOWN else ""
    return ", ".join(shorten(text) for text in texts[:NUM_SHOWN]) + more
