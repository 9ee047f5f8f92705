"""Videos of a folder meet their prompts by name or by position; a mismatch is an error that says which."""

from __future__ import annotations

import json
import unicodedata

import pytest

from worldr1_core.errors import UserError
from worldr1_rewards.evaluation.matching import match_videos
from worldr1_rewards.evaluation.prompts import EvaluationPrompt, read_evaluation_prompts

PROMPTS = ["Camera push in. A cat / dog.", 'A "red" room', "カメラが右へ動く。部屋", "कमरा किताबें"]


@pytest.fixture
def folder(tmp_path):
    """Create empty files: `folder(*names)`."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return make


def pairs(folder, prompts):
    return [(video.path.name, video.prompt, video.seed) for video in match_videos(folder, prompts)]


def test_names_of_vbench_with_any_script_and_replaced_characters(folder):
    names = ["Camera push in. A cat _ dog.-0.mp4", "A 'red' room-0.mp4", f"{PROMPTS[2]}-0.mp4", f"{PROMPTS[3]}-0.mp4"]
    assert pairs(folder(*reversed(names)), PROMPTS) == [(name, index, 0) for index, name in enumerate(names)]


def test_a_slash_may_have_become_a_folder_and_folders_may_be_categories(folder):
    made = folder("Camera push in. A cat / dog.-1.mp4", 'rooms/A "red" room-1.mp4')
    assert [(video.prompt, video.seed) for video in match_videos(made, PROMPTS[:2])] == [(0, 1), (1, 1)]


def test_percent_encoded_names(folder):
    assert pairs(folder("Camera%20push%20in.%20A%20cat%20%2F%20dog.-2.mp4"), PROMPTS[:1])[0][1:] == (0, 2)


def test_decomposed_accents_of_file_systems(folder):
    name = unicodedata.normalize("NFD", "Café é-0.mp4")
    assert pairs(folder(name), ["Café é"])[0][1:] == (0, 0)


def test_several_seeds_and_natural_order(folder):
    made = folder(*(f"{prompt}-{seed}.mp4" for prompt in ("a", "b") for seed in (10, 2)))
    assert [video[1:] for video in pairs(made, ["a", "b"])] == [(0, 2), (0, 10), (1, 2), (1, 10)]


def test_a_cut_name_is_the_beginning_of_one_prompt(folder):
    long = "A very long prompt about a room with many boxes and a window that shows the sea"
    assert pairs(folder(long[:50] + "-0.mp4"), [long]) == [(long[:50] + "-0.mp4", 0, 0)]


def test_position_where_no_name_is_a_prompt(folder):
    assert pairs(folder("clip10.mp4", "clip9.mp4"), ["a", "b"]) == [("clip9.mp4", 0, 0), ("clip10.mp4", 1, 0)]


def test_position_with_several_seeds(folder):
    made = folder("0000_0.mp4", "0000_1.mp4", "0001_0.mp4", "0001_1.mp4")
    assert [video[1:] for video in pairs(made, ["a", "b"])] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("names", "prompts", "message"),
    [
        (["a-0.mp4", "zebra-0.mp4"], ["a"], r"1 of 2 videos are named after a prompt, but not 'zebra-0.mp4'"),
        (["a-0.mp4"], ["a", "b"], r"1 of 2 prompts have no video: 'b'"),
        (["x.mp4", "y.mp4", "z.mp4"], ["a", "b"], r"3 videos for 2 prompts.*'x.mp4'"),
        (["a!-0.mp4"], ["a?", "a."], r"matches several prompts: 'a\?' \(number 0\); 'a\.'"),
        (["route-6.mp4"], ["route", "route-6"], r"matches several prompts"),
        (["a-0.mp4", "a-00.mp4"], ["a"], r"are both number 0 of the prompt 'a'"),
    ],
)
def test_mismatches_say_which(folder, names, prompts, message):
    with pytest.raises(UserError, match=message):
        match_videos(folder(*names), prompts)


def test_prompts_of_text_json_lines_and_vbench(tmp_path):
    (tmp_path / "p.txt").write_text("# all\n\nCamera push in.  A room.\nA cat\n", encoding="utf-8")
    assert [prompt.text for prompt in read_evaluation_prompts(tmp_path / "p.txt")] == [
        "Camera push in. A room.",
        "A cat",
    ]
    (tmp_path / "path.json").write_text("{}")
    rows = [{"prompt": "A cat", "scene": "static", "trajectory": "path.json"}, "A dog"]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_evaluation_prompts(tmp_path / "p.jsonl") == [
        EvaluationPrompt("A cat", tmp_path / "path.json", None, "static"),
        EvaluationPrompt("A dog"),
    ]
    (tmp_path / "v.json").write_text(json.dumps([{"prompt_en": "A cat", "dimension": ["scene"]}]))
    assert read_evaluation_prompts(tmp_path / "v.json") == [EvaluationPrompt("A cat")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"promt": "a"}', r"p.jsonl:1: key 'prompt' must be a text.*Did you mean 'prompt'"),
        ('{"prompt": "a"}\nnot json', r"p.jsonl:2: not valid JSON"),
        ('{"prompt": "a", "trajectory": "none.json"}', r"trajectory .*none.json.* does not exist"),
        ('"a"\n"a"', r"Prompts 0 and 1 are the same: 'a'"),
        ("", r"at least one prompt"),
    ],
)
def test_malformed_prompts(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        read_evaluation_prompts(tmp_path / "p.jsonl")
