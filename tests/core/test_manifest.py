"""The manifest: every mistake is told at once, with file, line and key path."""

from __future__ import annotations

import re

import pytest

from core import fake_components
from core.fake_components import COMPONENTS, HERE
from worldr1_core.errors import ManifestError, PluginError
from worldr1_core.manifest import load_manifest, load_section, parse_manifest
from worldr1_core.registry import Alias


@pytest.fixture
def registry(make_registry):
    return make_registry(COMPONENTS)


def mistakes(text: str, registry) -> list[str]:
    """The lines of the error for a manifest."""
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, registry, name="m.yaml")
    return str(caught.value).split("\n")


GOOD = """\
version: 1
seed: 7
device: cpu
reconstructor: {name: steps, coarse: 2, fine: 3}
rewards:
  - {name: sharpness, weight: 0.5, radius: 1e-4}
  - name: scene
    window: {start: 2}
prompts: {main: a.txt, no: b.txt}
schooling:
  steps: 3
"""


def test_good_manifest(registry):
    manifest = parse_manifest(GOOD, registry)
    assert (manifest.seed, manifest.device) == (7, "cpu")
    assert [(reward.name, reward.weight) for reward in manifest.rewards] == [("sharpness", 0.5), ("scene", 1.0)]
    assert manifest.rewards[0].options == {"radius": 1e-4}
    assert manifest.reconstructor.options == {"coarse": 2, "fine": 3}
    assert manifest.prompts == {"main": "a.txt", "no": "b.txt"}
    assert manifest.sections["schooling"].steps == 3


def test_old_names_of_components_and_sections_warn_and_become_the_new_ones(registry):
    owner = registry.find("reward", "scene").owner
    registry.add_alias(Alias("reward", "old-scene", "scene", owner))
    registry.add_alias(Alias("reconstructor", "old-steps", "steps", owner))
    registry.add_alias(Alias("manifest section", "old-schooling", "schooling", owner))
    old = GOOD.replace("name: scene", "name: old-scene").replace("{name: steps", "{name: old-steps")
    with pytest.warns(FutureWarning, match="Reward 'old-scene' is now called 'scene'"):
        manifest = parse_manifest(old.replace("\nschooling:", "\nold-schooling:"), registry)
    assert manifest == parse_manifest(GOOD, registry)


@pytest.mark.filterwarnings("ignore:Reward 'old-scene':FutureWarning")
def test_a_reward_under_its_old_and_its_new_name_stands_twice(registry):
    registry.add_alias(Alias("reward", "old-scene", "scene", registry.find("reward", "scene").owner))
    text = "version: 1\nrewards:\n  - name: scene\n  - name: old-scene\n"
    assert any("reward 'scene' stands twice" in line for line in mistakes(text, registry))


LESSONS = """\
version: 1
schooling:
  measure: {name: scene, share: 2, window: {start: 1}}
  lessons:
    first:
      measures:
        - {name: sharpness}
        - {name: opinion, question: how good}
"""


def test_components_that_a_section_names_are_walked_through(registry):
    walked = [(path, kind, spec.name) for path, kind, spec in parse_manifest(LESSONS, registry).components()]
    assert walked == [
        (("schooling", "measure"), "reward", "scene"),
        (("schooling", "lessons", "first", "measures", 0), "reward", "sharpness"),
        (("schooling", "lessons", "first", "measures", 1), "reward", "opinion"),
    ]


def test_mistakes_in_components_that_a_section_names_are_told_with_their_line(registry):
    text = LESSONS.replace("start: 1", "strat: 1").replace("sharpness}", "sharpnes}").replace("question", "qestion")
    found = mistakes(text, registry)
    assert [line.split(": ")[0] for line in found] == ["m.yaml:3", "m.yaml:3", "m.yaml:7", "m.yaml:8", "m.yaml:8"]
    assert "schooling.measure: key 'window.start' is missing" in found[0]
    assert "unknown key 'window.strat'. Allowed: ['length', 'start']" in found[1]
    assert "schooling.lessons.first.measures.0: Unknown reward 'sharpnes'" in found[2]
    assert "Did you mean 'question'?" in found[4]


def test_an_unknown_key_below_the_top_level_is_told_with_the_keys_of_its_place(registry):
    [line] = mistakes("version: 1\nschooling:\n  lessons: {first: {measurs: []}}\n", registry)
    assert "unknown key 'lessons.first.measurs'. Allowed: ['measures']. Did you mean 'measures'?" in line


def test_smallest_manifest(registry):
    manifest = parse_manifest("version: 1", registry)
    assert manifest.rewards == []
    assert (manifest.backbone, manifest.seed, manifest.device, manifest.sections) == (None, 0, "auto", {})


def test_components_walks_through_every_named_component(registry):
    walked = [(path, kind, spec.name) for path, kind, spec in parse_manifest(GOOD, registry).components()]
    assert walked == [
        (("reconstructor",), "reconstructor", "steps"),
        (("rewards", 0), "reward", "sharpness"),
        (("rewards", 1), "reward", "scene"),
    ]


CASES = {
    "unknown top-level key": (
        "version: 1\nrewrds: []",
        r"m\.yaml:2: unknown key 'rewrds'\. Allowed: \[.*'schooling'.*\]\. Did you mean 'rewards'\?",
    ),
    "version missing": ("seed: 1", r"m\.yaml:1: key 'version' is missing\."),
    "another version": ("version: 2", r"m\.yaml:1: 'version': this release reads version 1, received 2\."),
    "version as text": ("version: '1'", r"m\.yaml:1: 'version': this release reads version 1, received '1'\."),
    "seed of another type": ("version: 1\nseed: abc", r"m\.yaml:2: 'seed': .*valid integer.*received 'abc'\."),
    "seed in quotes": ("version: 1\nseed: '3'", r"m\.yaml:2: 'seed': .*valid integer.*received '3'\."),
    "seed as a truth value": ("version: 1\nseed: true", r"m\.yaml:2: 'seed': .*valid integer.*received True\."),
    "negative seed": ("version: 1\nseed: -1", r"m\.yaml:2: 'seed': .*greater than or equal to 0, received -1\."),
    "seed beyond 64 bits": ("version: 1\nseed: 9223372036854775808", r"m\.yaml:2: 'seed': .*less than"),
    "unknown device": ("version: 1\ndevice: gpu", r"m\.yaml:2: 'device': .*received 'gpu'\."),
    "component that is a word": (
        "version: 1\nreconstructor: steps",
        r"m\.yaml:2: reconstructor: write `\{name: …\}` and its options, received 'steps'\.",
    ),
    "reward that is a word": (
        "version: 1\nrewards:\n- sharpness",
        r"m\.yaml:3: rewards\.0: write `\{name: …\}` and its options, received 'sharpness'\.",
    ),
    "rewards that are a mapping": ("version: 1\nrewards: {name: scene}", r"m\.yaml:2: 'rewards': .*valid array"),
    "component without a name": ("version: 1\nrewards:\n- weight: 1", r"m\.yaml:3: key 'rewards\.0\.name' is missing"),
    "component with an empty name": (
        "version: 1\nrewards:\n- name: ''",
        r"m\.yaml:3: 'rewards\.0\.name': .*at least 1",
    ),
    "unknown component": (
        "version: 1\nrewards:\n- {name: scene}\n- {name: sharpnes}",
        r"m\.yaml:4: rewards\.1: Unknown reward 'sharpnes'\. Installed: .* Did you mean 'sharpness'\?",
    ),
    "name read as a number": ("version: 1\nrewards:\n- name: 3", r"m\.yaml:3: 'rewards\.0\.name': .*valid string"),
    "one reward twice": (
        "version: 1\nrewards:\n- {name: scene}\n- {name: scene, weight: 2}",
        r"m\.yaml:4: rewards\.1: reward 'scene' stands twice\. Keep one, and choose its weight\.",
    ),
    "negative weight": (
        "version: 1\nrewards:\n- name: scene\n  weight: -1",
        r"m\.yaml:4: 'rewards\.0\.weight': .*greater than or equal to 0, received -1",
    ),
    "infinite weight": (
        "version: 1\nrewards:\n- {name: scene, weight: .inf}",
        r"m\.yaml:3: 'rewards\.0\.weight': .*finite number",
    ),
    "weight that is no number": (
        "version: 1\nrewards:\n- {name: scene, weight: yes}",
        r"m\.yaml:3: .*weight': .*received 'yes'",
    ),
    "unknown option": (
        "version: 1\nrewards:\n- name: sharpness\n  raduis: 2",
        r"m\.yaml:4: rewards\.0: unknown key 'raduis'\. Allowed: \[.*\]\. Did you mean 'radius'\?",
    ),
    "option out of range": (
        "version: 1\nrewards:\n- name: sharpness\n  radius: 9",
        r"m\.yaml:4: rewards\.0: 'radius': .*less than or equal to 8, received 9",
    ),
    "option of another type": (
        "version: 1\nrewards:\n- {name: sharpness, passes: many}",
        r"m\.yaml:3: rewards\.0: 'passes': .*valid integer.*received 'many'",
    ),
    "truth value of YAML 1.1": (
        "version: 1\nrewards:\n- {name: sharpness, strict: yes}",
        r"m\.yaml:3: rewards\.0: 'strict': .*valid boolean, received 'yes'",
    ),
    "entry of a list option": (
        "version: 1\nrewards:\n- name: sharpness\n  bands:\n  - 1\n  - x",
        r"m\.yaml:6: rewards\.0: 'bands\.1': .*valid number.*received 'x'",
    ),
    "nested unknown option": (
        "version: 1\nrewards:\n- name: scene\n  window: {start: 1, stop: 2}",
        r"m\.yaml:4: rewards\.0: unknown key 'window\.stop'",
    ),
    "options that disagree": (
        "version: 1\nreconstructor:\n  name: steps\n  coarse: 9",
        r"m\.yaml:2: reconstructor: fine must not be below coarse, received \{'coarse': 9\}\.",
    ),
    "prompts that are a list": ("version: 1\nprompts: [a.txt]", r"m\.yaml:2: 'prompts': .*an object"),
    "prompt file that is a number": ("version: 1\nprompts:\n  main: 3", r"m\.yaml:3: 'prompts\.main': .*valid string"),
    "section out of range": ("version: 1\nschooling:\n  steps: 0", r"m\.yaml:3: schooling: 'steps': .*received 0"),
    "section with an unknown key": (
        "version: 1\nschooling: {step: 1}",
        r"m\.yaml:2: schooling: unknown key 'step'\. Allowed: \[.*\]\. Did you mean 'steps'\?",
    ),
    "section that is a word": (
        "version: 1\nschooling: fast",
        r"m\.yaml:2: schooling: '\(top level\)': .*received 'fast'",
    ),
    "sections written out": (
        "version: 1\nsections: {schooling: {}}",
        r"m\.yaml:2: sections: write each section at the top level, under its own name\.",
    ),
    "key that stands twice": ("version: 1\nseed: 1\nseed: 2", r"m\.yaml:3: key 'seed' stands twice"),
    "key that is a number": ("version: 1\n3: x", r"m\.yaml:2: a key must be text, received 3"),
    "nothing": ("", r"m\.yaml: the manifest is empty\. Start it with `version: 1`\."),
    "a comment": ("# nothing here", r"m\.yaml: the manifest is empty"),
    "a list": ("- version: 1", r"m\.yaml: a manifest is a mapping that starts with `version: 1`, received \[\{"),
    "a word": ("version", r"m\.yaml: a manifest is a mapping .*received 'version'"),
    "a tab": ("version: 1\nrewards:\n\t- a", r"m\.yaml:3: not valid YAML: .*Indent with spaces"),
}


@pytest.mark.parametrize(("text", "line"), CASES.values(), ids=CASES)
def test_one_mistake_is_one_line(registry, text, line):
    found = mistakes(text, registry)
    assert len(found) == 1, found
    assert re.match(line, found[0]), found[0]


def test_every_mistake_is_told_at_once(registry):
    text = """\
version: 3
sede: 1
seed: x
seed: 2
device: tpu
reconstructor: {name: step}
judge: {name: grader, model: x}
rewards:
  - {name: sharpness, radius: 9, passes: 0, colour: red}
  - {weight: 1}
  - {name: scene, weight: -1, window: {}}
  - {name: sharpness}
schooling: {steps: 0, stages: 2}
4: x
"""
    found = mistakes(text, registry)
    expected = {
        1: ["'version'"],
        2: ["unknown key 'sede'"],
        3: ["'seed'"],
        4: ["stands twice"],
        5: ["'device'"],
        6: ["Unknown reconstructor 'step'"],
        7: ["unknown key 'model'"],
        9: ["'radius'", "'passes'", "unknown key 'colour'"],
        10: ["'rewards.1.name' is missing"],
        11: ["'rewards.2.weight'", "'window.start' is missing"],
        12: ["stands twice"],
        13: ["'steps'", "unknown key 'stages'"],
        14: ["a key must be text"],
    }
    for number, problems in expected.items():
        at_line = [line for line in found if line.startswith(f"m.yaml:{number}: ")]
        assert len(at_line) == len(problems), (number, at_line)
        for problem in problems:
            assert any(problem in line for line in at_line), (problem, at_line)
    assert len(found) == sum(map(len, expected.values()))


def test_large_wrong_value_is_shown_short(registry):
    assert len(mistakes("version: 1\nprompts: [" + "x, " * 5_000 + "]", registry)[0]) < 400


def test_merge_keys_share_options(registry):
    text = (
        "version: 1\nrewards:\n- &base {name: sharpness, radius: 2}\nreconstructor: {name: steps}\n"
        "schooling: {<<: {steps: 4}}"
    )
    assert parse_manifest(text, registry).sections["schooling"].steps == 4


def test_wrong_merged_option_is_placed_at_its_component(registry):
    text = "version: 1\nschooling:\n  window: &w {start: -1}\nrewards:\n  - name: scene\n    window:\n      <<: *w\n"
    found = mistakes(text, registry)
    assert any(line.startswith("m.yaml:6: rewards.0: 'window.start'") for line in found)


def test_broken_plugin_is_told_with_its_owner(make_registry):
    registry = make_registry({"reward": {"gone": "no_such_module:X"}, "judge": {"bug": f"{HERE}:BrokenValidator"}})
    found = mistakes("version: 1\njudge: {name: bug}\nrewards:\n- {name: gone}\n", registry)
    assert any(
        re.match(r"m\.yaml:2: judge: checking judge 'bug' of acme-rewards .* failed: KeyError", x) for x in found
    )
    assert any(re.match(r"m\.yaml:4: rewards\.0: Reward 'gone' of acme-rewards .*No module named", x) for x in found)


def test_class_that_is_no_component_is_told(make_registry):
    registry = make_registry({"reward": {"thing": "collections:OrderedDict"}})
    found = mistakes("version: 1\nrewards:\n- {name: thing}\n", registry)
    assert re.match(r"m\.yaml:3: rewards\.0: Reward 'thing' of acme-rewards .* must be a class derived from", found[0])


@pytest.mark.parametrize("target", ["collections:OrderedDict", "no_such_module:X"])
def test_section_that_cannot_be_had_is_told(make_registry, target):
    registry = make_registry({"manifest section": {"schooling": target}})
    assert re.match(
        r"m\.yaml:2: schooling: Manifest section 'schooling' of acme-rewards",
        mistakes("version: 1\nschooling: {}", registry)[0],
    )


def test_section_model_is_loaded_by_its_name(make_registry):
    assert load_section(make_registry(COMPONENTS), "schooling") is fake_components.TrainSection
    with pytest.raises(PluginError, match="must be a pydantic model class"):
        load_section(make_registry({"manifest section": {"schooling": "json:dumps"}}), "schooling")


def test_broken_component_that_is_not_named_does_no_harm(make_registry):
    registry = make_registry({"reward": {**COMPONENTS["reward"], "gone": "no_such_module:X"}})
    assert parse_manifest("version: 1\nrewards: [{name: scene}]", registry).rewards[0].name == "scene"


def test_manifest_is_frozen(registry):
    with pytest.raises(ValueError, match="frozen"):
        parse_manifest(GOOD, registry).seed = 3


def test_manifest_file(registry, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_manifest(path, registry) == parse_manifest(GOOD, registry)
    assert load_manifest(str(path), registry).seed == 7


def test_mistakes_of_a_file_name_the_file(registry, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\nsede: 2", encoding="utf-8")
    with pytest.raises(ManifestError, match=re.escape(f"{path}:2: unknown key 'sede'")):
        load_manifest(path, registry)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"\x89PNG\r\n\x1a\n\x00", "version: 1".encode("utf-16")])
def test_binary_file_is_refused(registry, tmp_path, content):
    path = tmp_path / "m.yaml"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"m\.yaml' is not a text file in UTF-8"):
        load_manifest(path, registry)


@pytest.mark.parametrize("name", ["absent.yaml", ".", "a\0b", "x" * 5000])
def test_file_that_cannot_be_read_is_told(registry, tmp_path, name):
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / name, registry)
