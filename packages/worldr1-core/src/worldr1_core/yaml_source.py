"""YAML with positions: every key path of a document is mapped to its line, so that an error can point at it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import yaml

from worldr1_core.errors import ManifestError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A parsed document.

    Attributes:
        name: File name for messages.
        data: Plain Python values.
        lines: Key path -> 1-based line.
    """

    name: str
    data: Any
    lines: dict[KeyPath, int]

    def locate(self, path: KeyPath) -> str:
        """`file:line` of the closest enclosing key that the document holds."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name


def parse_yaml(text: str, name: str) -> YamlSource:
    """Parse one YAML document.

    Args:
        text: The document.
        name: File name for messages.

    Raises:
        ManifestError: The text is not YAML, holds a key twice, or an unsupported tag.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            lines: dict[KeyPath, int] = {}
            if node is not None:
                _index(node, (), lines, name)
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(f"{name}{line}: not valid YAML: {error.problem or error}.") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{name}: not valid YAML: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{name}: not valid YAML: {error}.") from error
    return YamlSource(name, data, lines)


def _index(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _index(child, (*path, index), lines, name)
    elif isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key_node, child in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key_node.start_mark)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise ManifestError(f"{name}:{line}: key {key!r} stands twice. Remove one of them.")
            seen.add(key)
            _index(child, (*path, key), lines, name)
            lines[(*path, key)] = line
