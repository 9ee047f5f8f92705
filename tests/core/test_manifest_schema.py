"""The JSON schema: valid by its own draft, and of one mind with the validation."""

from __future__ import annotations

import copy
import random

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.fake_components import COMPONENTS, HERE
from worldr1_core.errors import ManifestError
from worldr1_core.manifest import parse_manifest
from worldr1_core.manifest_schema import manifest_schema
from worldr1_core.plugins import installed
from worldr1_core.registry import Entry, Owner, Registry


def build(components) -> Registry:
    registry = Registry()
    for kind, names in components.items():
        for name, target in names.items():
            registry.add(Entry(kind, name, target, Owner("plugin", "acme-rewards", "2.0", "acme_rewards")))
    return registry


REGISTRY = build(COMPONENTS)
SCHEMA, FAILURES = manifest_schema(REGISTRY)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

GOOD = {
    "version": 1,
    "seed": 3,
    "device": "cuda:1",
    "backbone": {"name": "tree/of ~life", "depth": 2, "child": {"depth": 1, "child": None}},
    "noise": None,
    "reconstructor": {"name": "steps", "coarse": 1, "fine": 4},
    "judge": {"name": "grader"},
    "rewards": [
        {"name": "sharpness", "weight": 0.5, "radius": 2, "passes": 3, "mode": "exact", "bands": [1, 0.5]},
        {"name": "scene", "window": {"start": 0, "length": 3}},
        {"name": "opinion", "question": "Is it good?"},
    ],
    "prompts": {"main": "a.txt"},
    "schooling": {
        "steps": 5,
        "window": {"start": 1},
        "measure": {"name": "opinion", "share": 2, "question": "Is it good?"},
        "lessons": {"first": {"measures": [{"name": "sharpness", "passes": 2}]}},
    },
}


def parses(document) -> bool:
    try:
        parse_manifest(yaml.safe_dump(document, sort_keys=False), REGISTRY)
    except ManifestError:
        return False
    return True


def paths(value, prefix=()):
    """Every path into a document."""
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from paths(child, (*prefix, key))


PATHS = [path for path in paths(GOOD) if path]
VALUES = [None, True, False, 0, 1, -1, 2, 9, 0.5, -0.5, 10**20, "", "x", "1", "yes", "cpu", "fast", "scene", [], {}]
VALUES += [[1], [1, 2, 3, 4], ["x"], {"name": "scene"}, {"name": "x"}, {"start": 1}, {"start": -1}, {"x": "y"}]


def mutate(path, action, value):
    document = copy.deepcopy(GOOD)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if action == "replace":
        parent[path[-1]] = value
    elif action == "remove":
        del parent[path[-1]]
    elif isinstance(parent, dict):
        parent["extra"] = value
    else:
        parent.append(value)
    return document


def names_are_unique(document) -> bool:
    rewards = document.get("rewards")
    names = [r.get("name") for r in rewards if isinstance(r, dict)] if isinstance(rewards, list) else []
    return len({str(name) for name in names}) == len(names)


def is_expressible(document) -> bool:
    """JSON schema cannot say that two rewards differ in name, nor that one option bounds another."""
    steps = document.get("reconstructor")
    ordered = not (
        isinstance(steps, dict)
        and isinstance(coarse := steps.get("coarse", 2), int)
        and isinstance(fine := steps.get("fine", 4), int)
        and fine < coarse
    )
    return names_are_unique(document) and ordered


def test_schema_is_valid_draft_2020_12():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert FAILURES == {}


def test_good_document_is_accepted_by_both():
    VALIDATOR.validate(GOOD)
    assert parses(GOOD)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    path=st.sampled_from(PATHS),
    action=st.sampled_from(["replace", "remove", "add"]),
    value=st.sampled_from(VALUES),
)
def test_schema_and_validation_agree_on_a_changed_document(path, action, value):
    document = mutate(path, action, value)
    if is_expressible(document):
        assert VALIDATOR.is_valid(document) == parses(document), document


def test_mutations_reach_both_verdicts():
    rng = random.Random(0)
    verdicts = [
        VALIDATOR.is_valid(mutate(rng.choice(PATHS), rng.choice(["replace", "remove", "add"]), rng.choice(VALUES)))
        for _ in range(300)
    ]
    assert 30 < sum(verdicts) < 270


def test_every_reference_resolves():
    def references(value):
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "$ref":
                    yield item
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    found = set(references(SCHEMA))
    assert found
    resolver = VALIDATOR._resolver
    for reference in found:
        assert " " not in reference
        assert isinstance(resolver.lookup(reference).contents, dict)


def test_options_and_docstrings_of_components_are_in_the_schema():
    own = SCHEMA["$defs"]["reward.sharpness"]
    assert own["properties"]["name"] == {"const": "sharpness", "description": "Mean gradient of the frames."}
    assert own["properties"]["radius"]["description"] == "Pixels."
    assert own["properties"]["weight"]["default"] == 1.0
    assert own["required"] == ["name"]
    assert own["additionalProperties"] is False


def test_components_that_a_section_names_are_in_the_schema_with_the_keys_beside_them():
    own = SCHEMA["$defs"]["section.schooling.MeasureSpec.reward.sharpness"]["properties"]
    assert own["share"] == {
        "default": 1.0,
        "description": "Share.",
        "exclusiveMinimum": 0,
        "maximum": 9,
        "title": "Share",
        "type": "number",
    }
    assert own["passes"]["description"] == "How often."
    assert "weight" not in own
    schema, _ = manifest_schema(build({"manifest section": COMPONENTS["manifest section"]}))
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"version": 1, "schooling": {"measure": None}})
    assert not validator.is_valid({"version": 1, "schooling": {"measure": {"name": "sharpness"}}})


def test_nothing_installed_allows_no_component():
    schema, failures = manifest_schema(Registry())
    validator = jsonschema.Draft202012Validator(schema)
    assert failures == {}
    assert validator.is_valid({"version": 1, "rewards": [], "judge": None})
    assert not validator.is_valid({"version": 1, "rewards": [{"name": "scene"}]})
    assert not validator.is_valid({"version": 1, "judge": {"name": "grader"}})


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("reward", "no_such_module:X", "No module named"),
        ("backbone", f"{HERE}:Callback", "has no JSON schema"),
        ("reward", "collections:OrderedDict", "must be a class derived from"),
        ("manifest section", "collections:OrderedDict", "must be a pydantic model class"),
        ("manifest section", "no_such_module:X", "No module named"),
    ],
)
def test_what_cannot_be_described_is_left_out_with_its_reason(kind, target, reason):
    components = {**COMPONENTS, kind: {**COMPONENTS[kind], "odd": target}}
    schema, failures = manifest_schema(build(components))
    assert list(failures) == [f"{kind} odd"]
    assert reason in failures[f"{kind} odd"]
    assert {key: value for key, value in schema.items() if key != "$defs"}.keys() == SCHEMA.keys() - {"$defs"}
    jsonschema.Draft202012Validator(schema).validate(GOOD)


def test_name_registered_twice_is_left_out():
    registry = build(COMPONENTS)
    registry.add(Entry("judge", "grader", f"{HERE}:Grader", Owner("p", "zeta", "1", "zeta")))
    assert "registered by acme-rewards" in manifest_schema(registry)[1]["judge grader"]


def test_schema_of_what_is_installed_here_is_valid():
    schema, _ = manifest_schema(installed().registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$defs" in schema
