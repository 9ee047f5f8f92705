"""Generation of prompt files: `python -m worldr1_train.prompt_sets.generator --out prompts` writes the three splits.

A prompt consists of a camera sentence (none, one move, two moves, a composite move, or fixed) and a scene sentence of
one domain. The subjects of test prompts do not occur in training prompts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import click
import yaml

from worldr1_core.files import atomic_write_text

NUM_MAIN, NUM_DYNAMIC, NUM_TEST = 3000, 500, 300
COMPLEXITIES: Mapping[str, int] = {"none": 1, "single": 4, "two": 2, "composite": 1, "fixed": 1}
"""Camera complexity -> its share of the prompts."""
DYNAMIC_CAMERAS = ("none", "fixed", "single")


@dataclass(frozen=True, slots=True)
class Domain:
    """A visual domain.

    Attributes:
        name: Name of the domain.
        subjects: Subjects of training prompts.
        held_out: Subjects of test prompts.
        settings: Places where a subject stands.
        light: Light conditions.
        actors: Moving actors of dynamic prompts, as clauses that are followed by the subject.
    """

    name: str
    subjects: tuple[str, ...]
    held_out: tuple[str, ...]
    settings: tuple[str, ...]
    light: tuple[str, ...]
    actors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Phrases from which prompts are composed."""

    domains: tuple[Domain, ...]
    single: tuple[str, ...]
    composite: tuple[str, ...]
    dynamic_verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptSets:
    """The three splits, each without duplicates."""

    train: tuple[str, ...]
    dynamic: tuple[str, ...]
    test: tuple[str, ...]


def load_vocabulary() -> Vocabulary:
    """Load the vocabulary of the package, `domains.yaml`."""
    text = resources.files(__package__).joinpath("domains.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    domains = tuple(
        Domain(
            name,
            *(tuple(parts[key]) for key in ("subjects", "held_out", "settings", "light", "actors")),
        )
        for name, parts in document["domains"].items()
    )
    camera = document["camera"]
    return Vocabulary(domains, tuple(camera["single"]), tuple(camera["composite"]), tuple(document["dynamic_verbs"]))


def generate_prompts(
    seed: int = 0, *, num_main: int = NUM_MAIN, num_dynamic: int = NUM_DYNAMIC, num_test: int = NUM_TEST
) -> PromptSets:
    """Compose the splits; the result depends only on the arguments.

    All combinations of domains and camera complexities are used in turn, so that every split covers them evenly.

    Args:
        seed: Seed of the composition.
        num_main: Prompts of the split `train`.
        num_dynamic: Prompts of the split `dynamic`.
        num_test: Prompts of the split `test`.
    """
    vocabulary = load_vocabulary()
    rng = random.Random(seed)
    return PromptSets(
        train=_distinct(_still(vocabulary, rng, held_out=False), num_main),
        dynamic=_distinct(_moving(vocabulary, rng), num_dynamic),
        test=_distinct(_still(vocabulary, rng, held_out=True), num_test),
    )


def camera_sentence(vocabulary: Vocabulary, complexity: str, rng: random.Random) -> str:
    """Return a sentence such as `Camera push in, then pan left. `, or an empty string for `none`."""
    if complexity == "none":
        return ""
    if complexity == "fixed":
        return "Camera fixed. "
    if complexity == "composite":
        return f"Camera {rng.choice(vocabulary.composite)}. "
    if complexity == "single":
        return f"Camera {rng.choice(vocabulary.single)}. "
    first = rng.choice(vocabulary.single)
    second = rng.choice([move for move in vocabulary.single if move.split()[0] != first.split()[0]])
    return f"Camera {first}, then {second}. "


def _still(vocabulary: Vocabulary, rng: random.Random, *, held_out: bool) -> Iterator[str]:
    for domain, complexity in _turns(vocabulary.domains, rng, [c for c, n in COMPLEXITIES.items() for _ in range(n)]):
        subject = rng.choice(domain.held_out if held_out else domain.subjects)
        scene = f"{subject} {rng.choice(domain.settings)}, {rng.choice(domain.light)}"
        yield f"{camera_sentence(vocabulary, complexity, rng)}{_capital(scene)}."


def _moving(vocabulary: Vocabulary, rng: random.Random) -> Iterator[str]:
    for domain, complexity in _turns(vocabulary.domains, rng, DYNAMIC_CAMERAS):
        actor, subject = rng.choice(domain.actors), rng.choice(domain.subjects)
        place = f"{rng.choice(domain.settings)}, {rng.choice(vocabulary.dynamic_verbs)}"
        yield f"{camera_sentence(vocabulary, complexity, rng)}{_capital(f'{actor} {subject} {place}')}."


def _turns(domains: Sequence[Domain], rng: random.Random, complexities: Sequence[str]) -> Iterator[tuple[Domain, str]]:
    """Yield endless passes over all combinations, each pass in random order."""
    pairs = [(domain, complexity) for domain in domains for complexity in complexities]
    while True:
        rng.shuffle(pairs)
        yield from pairs


def _distinct(prompts: Iterator[str], count: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for prompt in prompts:
        found.setdefault(prompt)
        if len(found) == count:
            return tuple(found)
    raise AssertionError("the vocabulary's combinations never end")


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the three files.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the composition.")
def main(out: Path, seed: int) -> None:
    """Write train.txt, dynamic.txt and test.txt, with one prompt per line."""
    sets = generate_prompts(seed)
    for name in ("train", "dynamic", "test"):
        atomic_write_text(out / f"{name}.txt", "\n".join(getattr(sets, name)) + "\n")


if __name__ == "__main__":
    main()
