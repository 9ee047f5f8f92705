"""YAML with positions: what is read, where it stands, and what hostile input does."""

from __future__ import annotations

import math
import time

import pytest

from worldr1_core.errors import ManifestError
from worldr1_core.yaml_source import MAX_VALUES, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("12", 12),
        ("+12", 12),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ("=", "="),
        ("[1, a]", [1, "a"]),
        ("{b: 2}", {"b": 2}),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = parse_yaml(f"key: {text}", "m").data["key"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_read():
    assert math.isnan(parse_yaml("key: .nan", "m").data["key"])


def test_every_key_path_has_its_line():
    source = parse_yaml("version: 1\nrewards:\n  - name: a\n    weight: 2\n  - {name: b}\n", "m.yaml")
    assert source.lines[("version",)] == 1
    assert source.lines[("rewards",)] == 2
    assert source.lines[("rewards", 0, "weight")] == 4
    assert source.locate(("rewards", 1, "name")) == "m.yaml:5"


def test_a_path_that_is_absent_is_placed_at_the_closest_that_is_there():
    source = parse_yaml("rewards:\n  - name: a\n", "m.yaml")
    assert source.locate(("rewards", 0, "weight", "x")) == "m.yaml:2"
    assert source.locate(("nothing",)) == "m.yaml:1"
    assert parse_yaml("", "m.yaml").locate(("a",)) == "m.yaml"


def test_key_that_stands_twice_is_an_issue_with_its_line_and_path():
    source = parse_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "m")
    assert source.issues == [
        "m:4: b: key 'c' stands twice. Remove one of them.",
        "m:5: key 'a' stands twice. Remove one of them.",
    ]
    assert source.data == {"a": 1, "b": {"c": 1}}


@pytest.mark.parametrize("key", ["1", "true", "null", "1.5", "[1, 2]", "{a: 1}"])
def test_key_that_is_not_text_is_an_issue(key):
    source = parse_yaml(f"a: 1\n? {key}\n: 2\n", "m")
    assert len(source.issues) == 1
    assert source.issues[0].startswith("m:2: a key must be text, received ")
    assert source.issues[0].endswith("Put it in quotes.")
    assert source.data == {"a": 1}


def test_quoted_number_and_words_of_yaml_1_1_are_good_keys():
    source = parse_yaml("'1': a\non: b\nno: c\n", "m")
    assert source.data == {"1": "a", "on": "b", "no": "c"}
    assert source.issues == []


def test_anchor_and_alias_share_a_value():
    source = parse_yaml("a: &x {k: 1}\nb: *x\n", "m")
    assert source.data == {"a": {"k": 1}, "b": {"k": 1}}


def test_merge_key_adds_what_is_absent():
    source = parse_yaml("base: &x {k: 1, l: 2}\nown:\n  <<: *x\n  l: 3\n", "m")
    assert source.data["own"] == {"k": 1, "l": 3}
    assert source.issues == []


def test_duplicate_in_an_aliased_mapping_is_told_once():
    assert len(parse_yaml("a: &x {k: 1, k: 2}\nb: *x\n", "m").issues) == 1


def bomb(levels: int = 40, width: int = 10, template: str = "[{}]") -> str:
    first = template.format(", ".join(["{k: 1}" if "<<" in template else "x"] * width))
    lines = [f"a0: &a0 {first}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} " + template.format(", ".join([f"*a{level - 1}"] * width)))
    return "\n".join(lines)


@pytest.mark.parametrize("template", ["[{}]", "{{<<: [{}]}}"], ids=["aliases", "merge keys"])
def test_billion_laughs_is_refused_at_once(template):
    start = time.process_time()
    with pytest.raises(ManifestError, match=rf"expands to more than {MAX_VALUES} values"):
        parse_yaml(bomb(template=template), "m")
    assert time.process_time() - start < 1.0


def test_alias_inside_its_own_anchor_is_refused():
    with pytest.raises(ManifestError, match="m:2: an alias refers to the value that contains it"):
        parse_yaml("a: 1\nb: &x [*x]\n", "m")


def test_deep_nesting_is_refused():
    with pytest.raises(ManifestError, match="nested too deeply"):
        parse_yaml("a: " + "[" * 1_000 + "]" * 1_000, "m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n\tb: 2", r"m:2: not valid YAML: found character '\\t'.* Indent with spaces\."),
        ("a: [1, 2", r"m:1: not valid YAML: "),
        ("a: 1\nb: *nope", r"m:2: not valid YAML: found undefined alias 'nope'"),
        ("a: 1\n---\nb: 2", r"m:2: not valid YAML: but found another document"),
        ("a: 1\nb: \x00", r"m:2: not valid YAML: .* Save the file as plain UTF-8"),
        ("a: !!python/object:os.system x", r"m:1: .*could not determine a constructor for the tag"),
        ("a: !!binary aGk=", r"m:1: .*could not determine a constructor"),
        ("a: !secret x", r"m:1: .*could not determine a constructor"),
        ("a: !!int many", r"m:1: .*'many' cannot be read as a whole number"),
        ("a: !!float many", r"m:1: .*'many' cannot be read as a number"),
        ("a: !!bool maybe", r"m:1: .*'maybe' cannot be read as true or false"),
        ("a: " + "9" * 5000, r"m:1: .*'9{40}…' cannot be read as a whole number"),
        ("a: &x 3\n<<: *x", r"m:1: .*expected a mapping"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text, message):
    with pytest.raises(ManifestError, match=message):
        parse_yaml(text, "m")


def test_byte_order_mark_is_no_part_of_the_first_key():
    assert parse_yaml("\ufeffa: 1", "m").data == {"a": 1}


@pytest.mark.parametrize("text", ["", "   \n", "# a comment\n", "---\n"])
def test_empty_document_is_none(text):
    assert parse_yaml(text, "m").data is None
