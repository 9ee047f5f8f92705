"""Placements: what runs where, and what a composition makes of scores that come from elsewhere."""

from __future__ import annotations

import math

import jsonschema
import pytest

from core.fake_components import COMPONENTS, Sharpness
from core.fake_placement import Away
from worldr1_core.compose import ScoringComponents, compose_scoring
from worldr1_core.errors import ManifestError, PluginError, ScoreNotApplicable, ScoreUnavailable, UserError
from worldr1_core.frame_scoring import check_gradients
from worldr1_core.manifest import ComponentSpec, Manifest, parse_manifest
from worldr1_core.manifest_schema import manifest_schema
from worldr1_core.reward import Score
from worldr1_core.scoring import ScoringEngine

AWAY = "placement: {name: away}"
SCENE = f"reconstructor: {{name: steps, fine: 8, {AWAY}}}\njudge: {{name: grader}}\n"
MIXED = f"""\
version: 1
device: cpu
{SCENE}rewards:
- {{name: sharpness, weight: 2, radius: 3}}
- {{name: scene}}
- {{name: opinion, question: Why, {AWAY}}}
"""


@pytest.fixture
def registry(make_registry):
    Away.scorers, Away.judges = [], []
    places = {"away": "core.fake_placement:Away", "rewards-only": "core.fake_placement:RewardsOnly"}
    return make_registry({**COMPONENTS, "placement": places})


def compose(text: str, registry, **options) -> ScoringComponents:
    return compose_scoring(parse_manifest(text, registry), registry, **options)


def test_rewards_follow_the_reconstructor_that_they_read(registry):
    components = compose(MIXED, registry)
    (scorer,) = Away.scorers  # the same placement stands twice, and makes one place
    assert [spec.name for spec in scorer.part.rewards] == ["scene", "opinion"]
    assert scorer.part.rewards[1].options == {"question": "Why"}
    assert (scorer.part.reconstructor.name, scorer.part.reconstructor.options) == ("steps", {"fine": 8})
    assert scorer.part.judge.name == "grader"
    assert components.reconstructor is None
    assert components.judge is None
    assert isinstance(components.rewards[0].reward, Sharpness)


def test_places_with_other_options_are_other_places(registry):
    compose(
        MIXED.replace("question: Why, placement: {name: away", "question: Why, placement: {name: away, host: b"),
        registry,
    )
    assert sorted(spec.name for scorer in Away.scorers for spec in scorer.part.rewards) == ["opinion", "scene"]
    assert len(Away.scorers) == 2


def test_a_place_is_asked_once_per_batch(registry, make_clip):
    engine = ScoringEngine(compose(MIXED, registry))
    results = list(engine.score([make_clip(seed) for seed in range(3)], batch_size=2))
    assert Away.scorers[0].calls == [(2, ("scene", "opinion"), False), (1, ("scene", "opinion"), False)]
    assert {name: score.value for name, score in results[0].scores.items()} == {
        "sharpness": 3.0,
        "scene": 0.25,
        "opinion": 0.25,
    }
    assert list(results[0].scores) == ["sharpness", "scene", "opinion"]
    assert results[0].total == 6.5
    assert results[0].timings["away"] == 1.0


def test_some_of_the_rewards_of_a_place(registry, make_clip):
    components = compose(MIXED, registry).subset(["scene"])
    list(ScoringEngine(components).score([make_clip()]))
    assert Away.scorers[0].calls == [(1, ("scene",), False)]


@pytest.mark.parametrize(
    ("error", "applicable"),
    [(ScoreUnavailable("gone"), True), (ScoreNotApplicable("gone"), False), (OSError("gone"), True)],
)
def test_a_place_that_fails_is_a_reason(registry, make_clip, error, applicable):
    engine = ScoringEngine(compose(MIXED, registry))

    def fail(clip, reward):
        raise error

    Away.scorers[0].answer = fail
    (result,) = engine.score([make_clip()])
    assert math.isnan(result.scores["scene"].value)
    assert result.scores["scene"].reason.endswith("gone")
    assert result.scores["scene"].applicable is applicable
    assert result.scores["sharpness"].value == 3.0
    assert math.isnan(result.total) is applicable


def test_a_place_that_cannot_work_stops_the_run(registry, make_clip):
    engine = ScoringEngine(compose(MIXED, registry))

    def fail(clip, reward):
        raise UserError("no weights")

    Away.scorers[0].answer = fail
    with pytest.raises(UserError, match="no weights"):
        list(engine.score([make_clip()]))


def test_a_place_that_leaves_out_a_score_broke_its_contract(registry, make_clip):
    engine = ScoringEngine(compose(MIXED, registry))
    Away.scorers[0].score = lambda clips, rewards, with_reference: []
    with pytest.raises(PluginError, match="FakeScorer must return scores"):
        list(engine.score([make_clip()]))


def test_a_reward_away_from_its_reconstructor_is_refused(registry):
    text = MIXED.replace("{name: scene}", "{name: scene, placement: {name: away, host: b}}")
    with pytest.raises(ManifestError, match="Move its `placement` to `reconstructor:`"):
        compose(text, registry)


def test_a_reward_object_does_not_leave_its_process(registry):
    from core.fake_components import Scene

    with pytest.raises(UserError, match="is an object of this process"):
        compose(MIXED, registry, only=[Scene()])


def test_a_reconstructor_given_by_name_stays_here(registry):
    components = compose(MIXED, registry, only=["scene"], reconstructor="steps")
    assert components.reconstructor is not None
    assert Away.scorers == []


def test_gradients_do_not_come_from_elsewhere(registry):
    rewards = {weighted.name: weighted.reward for weighted in compose(MIXED, registry).rewards}
    with pytest.raises(UserError, match=r"\['opinion', 'scene'\] run in another process"):
        check_gradients(rewards, "This objective")


def test_mistakes_in_a_placement_are_reported_with_their_line(registry):
    text = MIXED.replace(AWAY, "placement: {name: awya}", 1).replace(AWAY, "placement: {name: away, port: 1}")
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, registry, name="m.yaml")
    assert "m.yaml:3: reconstructor.placement: Unknown placement 'awya'" in str(caught.value)
    assert "m.yaml:8: rewards.2.placement: unknown key 'port'" in str(caught.value)


def test_a_backbone_has_no_placement(registry):
    with pytest.raises(ManifestError, match="backbone: unknown key 'placement'"):
        parse_manifest(f"{MIXED}backbone: {{name: tree/of ~life, {AWAY}}}\n", registry)


JUDGE_AWAY = MIXED.replace("judge: {name: grader}", "judge: {name: grader, placement: {name: away, host: gpu}}")


def test_a_judge_that_is_placed_is_made_ready_once_for_those_that_ask(registry):
    asked_here = JUDGE_AWAY.replace(f"question: Why, {AWAY}", "question: Why")
    components = compose(asked_here, registry)
    (connected,) = Away.judges
    assert (connected.part.judge.name, connected.part.seed, connected.host) == ("grader", 0, "gpu")
    assert components.judge is connected
    assert [spec.name for scorer in Away.scorers for spec in scorer.part.rewards] == ["scene"]
    assert Away.scorers[0].part.reach_judge is None  # `scene` asks no judge


def test_rewards_of_another_process_get_the_address_of_the_judge_when_they_need_it(registry):
    components = compose(JUDGE_AWAY, registry)
    part = Away.scorers[0].part
    assert part.judge.model_dump() == {"name": "grader"}
    assert (components.judge, Away.judges) == (None, [])
    assert part.reach_judge() == part.reach_judge() == ComponentSpec(name="away", host="gpu")
    assert len(Away.judges) == 1


def test_a_judge_that_is_placed_is_not_made_ready_for_rewards_that_do_not_ask(registry):
    components = compose(JUDGE_AWAY, registry, only=["sharpness"])
    assert (components.judge, Away.judges) == (None, [])


def test_a_place_without_room_for_judges_says_so(registry):
    text = JUDGE_AWAY.replace("{name: away, host: gpu}", "{name: rewards-only}")
    with pytest.raises(UserError, match=r"RewardsOnly has no place for a judge. Remove `placement` from `judge:`"):
        compose(text.replace(f"question: Why, {AWAY}", "question: Why"), registry)


def test_the_schema_describes_placements(registry):
    import yaml

    schema, _ = manifest_schema(registry)
    document = yaml.safe_load(MIXED)
    jsonschema.validate(document, schema)
    document["rewards"][2]["placement"]["port"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_records_of_manifests_without_placements_are_as_before(registry):
    manifest = parse_manifest(MIXED.replace(f", {AWAY}", ""), registry)
    dumped = manifest.model_dump(mode="json")
    assert dumped["rewards"][1] == {"name": "scene", "weight": 1.0}
    assert dumped["reconstructor"] == {"name": "steps", "fine": 8}
    assert Manifest.model_validate(dumped) == manifest.model_copy(update={"sections": {}})


def test_a_record_can_leave_out_where_rewards_run(registry):
    placement = {"placement"}
    dumped = parse_manifest(JUDGE_AWAY, registry).model_dump(
        mode="json", exclude={"reconstructor": placement, "judge": placement, "rewards": {"__all__": placement}}
    )
    assert dumped == parse_manifest(MIXED.replace(f", {AWAY}", ""), registry).model_dump(mode="json")


def test_a_missing_score_keeps_its_details(registry, make_clip):
    engine = ScoringEngine(compose(MIXED, registry))
    Away.scorers[0].answer = lambda clip, reward: Score.unavailable("dark", level=0.1)
    (result,) = engine.score([make_clip()])
    assert result.scores["scene"].details == {"level": 0.1}
    assert result.reasons["scene"] == "dark"
