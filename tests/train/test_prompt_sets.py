"""The shipped prompts: what the generator composes, and what it must never do."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from worldr1_core.camera.vocabulary import Move, detect_moves
from worldr1_train.prompt_sets.generator import camera_sentence, generate_prompts, load_vocabulary, main

SHIPPED = Path(__file__).parents[2] / "examples" / "prompts"
SETS = generate_prompts()
VOCABULARY = load_vocabulary()


@pytest.mark.parametrize("split", ["train", "dynamic", "test"])
def test_shipped_files_are_what_the_generator_writes(split):
    assert (SHIPPED / f"{split}.txt").read_text(encoding="utf-8").splitlines() == list(getattr(SETS, split))


def test_sizes_and_no_prompt_twice():
    assert (len(SETS.train), len(SETS.dynamic), len(SETS.test)) == (3000, 500, 300)
    everything = [*SETS.train, *SETS.dynamic, *SETS.test]
    assert len(set(everything)) == len(everything)


def test_test_subjects_are_never_trained_on():
    held_out = [subject for domain in VOCABULARY.domains for subject in domain.held_out]
    for prompt in (*SETS.train, *SETS.dynamic):
        assert not any(subject.lower() in prompt.lower() for subject in held_out), prompt
    assert all(any(subject.lower() in prompt.lower() for subject in held_out) for prompt in SETS.test)


@pytest.mark.parametrize("split", ["train", "test"])
def test_camera_complexities_have_their_shares(split):
    prompts = getattr(SETS, split)
    kinds = Counter(_kind(detect_moves(prompt)) for prompt in prompts)
    share = {kind: count / len(prompts) for kind, count in kinds.items()}
    assert share == pytest.approx(
        {"none": 1 / 9, "single": 4 / 9, "two": 2 / 9, "composite": 1 / 9, "fixed": 1 / 9}, abs=0.02
    )


def test_scenes_hold_no_camera_word():
    """A "fixed" bridge or a frying "pan left" on the stove would command the camera."""
    parts = [text for d in VOCABULARY.domains for text in (*d.subjects, *d.held_out, *d.settings, *d.light, *d.actors)]
    assert not [text for text in (*parts, *VOCABULARY.dynamic_verbs) if detect_moves(text)]


def test_every_move_of_the_vocabulary_is_commanded():
    commanded = {move for prompt in SETS.train for move in detect_moves(prompt)}
    assert commanded == set(Move)


def test_two_moves_are_of_two_kinds():
    rng = random.Random(1)
    for _ in range(200):
        first, second = detect_moves(camera_sentence(VOCABULARY, "two", rng))
        assert first.split("_")[0] != second.split("_")[0]


def test_another_seed_gives_other_prompts_and_the_same_seed_the_same():
    assert generate_prompts(3, num_main=50, num_dynamic=5, num_test=5) == generate_prompts(
        3, num_main=50, num_dynamic=5, num_test=5
    )
    assert generate_prompts(3, num_main=50).train != generate_prompts(4, num_main=50).train


def test_program_writes_the_files(tmp_path):
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "prompts"), "--seed", "1"])
    assert result.exit_code == 0
    assert (tmp_path / "prompts" / "test.txt").read_text().splitlines() == list(generate_prompts(1).test)


def _kind(moves):
    if len(moves) != 1:
        return "two" if moves else "none"
    return {Move.FIXED: "fixed", Move.PULL_LEFT: "composite", Move.PULL_RIGHT: "composite"}.get(moves[0], "single")
