"""Where weights come from: the hub through its client, and the ways that fails."""

from __future__ import annotations

import pytest
import torch

from worldr1_core.errors import MissingExtraError, WeightsError
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.pretrained import find_file, from_pretrained, read_state_dict


class Factory:
    """Records how it was called."""

    @staticmethod
    def from_pretrained(name, **options):
        return name, options


def fill_cache(folder, monkeypatch, filename):
    """The hub client's cache with one file of `owner/name` at revision `main`."""
    repository = folder / "models--owner--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / filename).write_bytes(b"{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(folder), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))


def test_a_hub_model_is_asked_for_by_revision_and_without_remote_code(tmp_path, monkeypatch):
    fill_cache(tmp_path, monkeypatch, "config.json")
    name, options = from_pretrained(Factory, WeightsSource("owner/name", "main", local_files_only=True), "it")
    assert name == "owner/name"
    assert options == {"revision": "main", "trust_remote_code": False, "local_files_only": True}


def test_an_unreachable_hub_model_fails_before_its_many_files_are_tried():
    with pytest.raises(WeightsError, match="hf download owner/absent"):
        from_pretrained(None, WeightsSource("owner/absent", None, local_files_only=True), "it")


def test_a_folder_is_given_as_a_path_without_revision(tmp_path):
    name, options = from_pretrained(Factory, WeightsSource(str(tmp_path)), "it", dtype="auto")
    assert name == str(tmp_path)
    assert options == {"trust_remote_code": False, "local_files_only": False, "dtype": "auto"}


def test_a_hub_file_in_the_cache_is_found(tmp_path, monkeypatch):
    fill_cache(tmp_path, monkeypatch, "weights.pt")
    found = find_file(WeightsSource("owner/name", None, local_files_only=True), "weights.pt", "it")
    assert found.read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        (WeightsSource("/gone/model.pt"), "Check the path"),
        (WeightsSource("owner/name", None, True), "set local_files_only to false"),
        (WeightsSource("owner/name"), "Check the name and the network"),
    ],
)
def test_the_fix_fits_the_source(source, fix):
    error = source.fail("the model", "first line\nsecond line")
    assert isinstance(error, WeightsError)
    assert f"Cannot load the model from {source.name!r}: first line. " in str(error)
    assert fix in str(error)


def test_an_error_without_words_is_named_by_its_type():
    assert "EOFError" in str(WeightsSource("owner/name").fail("it", EOFError()))


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pt").write_bytes(b"")
    source = WeightsSource("~/w.pt")
    assert source.is_local
    assert find_file(source, "other.pt", "it") == tmp_path / "w.pt"


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_nested_checkpoints_are_unwrapped(tmp_path, key):
    tensors = {"a": torch.ones(2)}
    torch.save({key: tensors, "epoch": 3} if key else tensors, tmp_path / "c.pt")
    state = read_state_dict(tmp_path / "c.pt", WeightsSource("x"), "it")
    assert list(state) == ["a"]
    torch.testing.assert_close(state["a"], torch.ones(2))


def test_a_package_that_a_model_needs_is_named(tmp_path):
    class Needy:
        @staticmethod
        def from_pretrained(name, **options):
            raise ImportError("Package `num2words` is required.\n  Install it with `pip install num2words`.")

    with pytest.raises(MissingExtraError, match=r"needs a package .* required\. Install it with `pip"):
        from_pretrained(Needy, WeightsSource(str(tmp_path)), "the judge model")
