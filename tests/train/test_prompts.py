"""Prompts from files, folders and datasets."""

from __future__ import annotations

import pytest

from train.sites import write_prompts
from worldr1_core.errors import ManifestError, UserError
from worldr1_train.prompts import load_split


def test_file_relative_to_the_manifest(tmp_path):
    write_prompts(tmp_path)
    assert load_split({"test": "test.txt"}, "test", tmp_path)[0] == "a cat"


@pytest.mark.parametrize(("split", "first"), [("main", "a red ball"), ("dynamic", "a fast dog"), ("test", "a cat")])
def test_folder_in_the_layout_of_the_release(tmp_path, split, first):
    write_prompts(tmp_path / "data" if (tmp_path / "data").mkdir() is None else tmp_path)
    assert load_split({split: "data"}, split, tmp_path)[0] == first


def test_dataset_of_the_hub_in_the_same_layout(tmp_path, monkeypatch):
    import transformers.utils

    write_prompts(tmp_path)
    asked = []

    def cached_file(dataset, name, *, repo_type):
        asked.append((dataset, name, repo_type))
        return str(tmp_path / name)

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
    assert load_split({"main": "microsoft/World-R1"}, "main", tmp_path)[0] == "a red ball"
    assert asked == [("microsoft/World-R1", "train.txt", "dataset")]


def test_dataset_that_cannot_be_had(tmp_path, monkeypatch):
    import transformers.utils

    def cached_file(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
    with pytest.raises(UserError, match="cannot be loaded as a dataset from the hub: no connection"):
        load_split({"main": "somebody/prompts"}, "main", tmp_path)


@pytest.mark.parametrize("place", ["absent.txt", "folder/absent.txt", "a/b/c"])
def test_absent_file_is_not_looked_for_on_the_hub(tmp_path, place):
    with pytest.raises(UserError, match="cannot be read"):
        load_split({"main": place}, "main", tmp_path)


def test_unknown_split(tmp_path):
    with pytest.raises(ManifestError, match=r"Unknown prompt split 'tset'.*Did you mean 'test'"):
        load_split({"test": "test.txt"}, "tset", tmp_path)
