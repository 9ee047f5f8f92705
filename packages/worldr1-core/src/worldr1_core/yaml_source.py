"""YAML with positions: every key path is mapped to its line, for use in error messages.

Plain scalars are read by the core schema of YAML 1.2, as editors and JSON schemas read them: `1e-4` is a number, and
`yes`, `no`, `on`, `off`, `1:30` and `2026-01-01` are text. Anchors, aliases and merge keys work within a size limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from worldr1_core.errors import ManifestError

KeyPath = tuple[str | int, ...]

MAX_VALUES = 100_000
"""Most values that a document may hold once its aliases are expanded: no file of a few lines fills the memory."""

_STR, _INT, _FLOAT, _BOOL, _NULL, _MAP, _SEQ, _MERGE = (
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")
)


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A parsed document.

    Attributes:
        name: File name for messages.
        data: Plain Python values: dict, list, str, int, float, bool, None.
        lines: Key path -> 1-based line.
        issues: Mistakes that leave the document readable (a key that stands twice, a key that is not text), one
            `file:line: key: problem` each.
    """

    name: str
    data: Any
    lines: dict[KeyPath, int]
    issues: list[str] = field(default_factory=list)

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
        ManifestError: The text is not YAML, holds an unsupported tag, or grows beyond `MAX_VALUES` by its aliases.
    """
    source = YamlSource(name, None, {})
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return source
            _measure(node, {}, name)
            _index(node, (), source)
            return YamlSource(name, loader.construct_document(node), source.lines, source.issues)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = " Indent with spaces." if "'\\t'" in str(error.problem) else ""
        raise ManifestError(f"{name}{line}: not valid YAML: {error.problem or error}.{hint}") from error
    except yaml.reader.ReaderError as error:
        raise ManifestError(
            f"{name}:{text.count(chr(10), 0, error.position) + 1}: not valid YAML: {error.reason} "
            f"(code {error.character:#04x}). "
            "Save the file as plain UTF-8."
        ) from error
    except RecursionError as error:
        raise ManifestError(f"{name}: not a manifest: its values are nested too deeply.") from error


def _measure(node: yaml.Node, sizes: dict[int, int], name: str) -> int:
    """Number of values below a node with every alias expanded, each node visited once.

    Raises:
        ManifestError: More than `MAX_VALUES`, or an alias that stands inside its own anchor.
    """
    line = node.start_mark.line + 1
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise ManifestError(f"{name}:{line}: an alias refers to the value that contains it. Write the value out.")
        return sizes[id(node)]
    sizes[id(node)] = 0
    total = 1
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                total += _measure(part, sizes, name)
    if total > MAX_VALUES:
        raise ManifestError(
            f"{name}:{line}: expands to more than {MAX_VALUES} values. A manifest is small: remove the nested aliases."
        )
    sizes[id(node)] = total
    return total


def _index(node: yaml.Node, path: KeyPath, source: YamlSource) -> None:
    """Note the line of every key; take keys that stand twice or are not text out of the tree, as issues."""
    source.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _index(child, (*path, index), source)
    elif isinstance(node, yaml.MappingNode):
        kept: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, child in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            where = f"{source.name}:{line}: {'.'.join(map(str, path))}{': ' if path else ''}"
            if key_node.tag not in (_STR, _MERGE):
                shown = key if isinstance(key, str) else "a collection"
                source.issues.append(f"{where}a key must be text, received {shown}. Put it in quotes.")
            elif key in kept:
                source.issues.append(f"{where}key {key!r} stands twice. Remove one of them.")
            else:
                kept[key] = (key_node, child)
                if key_node.tag == _STR:
                    source.lines[(*path, key)] = line
                    _index(child, (*path, key), source)
        node.value = list(kept.values())


class _Loader(yaml.SafeLoader):
    """`SafeLoader` with the scalars of YAML 1.2's core schema, and no tag beyond JSON's types."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}


def _scalar(kind: str, convert: Callable[[str], Any]) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = str(loader.construct_scalar(node))
        try:
            return convert(text.lower())
        except (ValueError, KeyError) as error:
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            raise yaml.constructor.ConstructorError(
                None, None, f"{shown!r} cannot be read as {kind}", node.start_mark
            ) from error

    return construct


for _tag, _pattern, _first in (
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (_FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    (_FLOAT, r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_MERGE, r"<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))

for _tag, _construct in (
    (_STR, yaml.SafeLoader.construct_yaml_str),
    (_INT, _scalar("a whole number", lambda text: int(text, 0 if text[:2] in ("0x", "0o") else 10))),
    (_FLOAT, _scalar("a number", lambda text: float(re.sub(r"\.(?=inf|nan)", "", text)))),
    (_BOOL, _scalar("true or false", {"true": True, "false": False}.__getitem__)),
    (_NULL, yaml.SafeLoader.construct_yaml_null),
    (_MAP, yaml.SafeLoader.construct_yaml_map),
    (_SEQ, yaml.SafeLoader.construct_yaml_seq),
):
    _Loader.add_constructor(_tag, _construct)
_Loader.add_constructor(None, _Loader.construct_undefined)  # type: ignore[type-var]
