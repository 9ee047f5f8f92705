"""Recording and replay of an endpoint's answers, one JSON line per request.

A run against a large model can be repeated, tested and audited without access to that model. An answer is replayed only
for an identical request (model, options, pictures, text).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldr1_core.errors import OutputError, UserError
from worldr1_core.prompt_files import split_lines


def request_digest(request: Mapping[str, Any]) -> str:
    """SHA-256 of a request, pictures included, in hexadecimal."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode("utf-8")).hexdigest()


class Recording:
    """A file of recorded answers.

    Args:
        path: JSON lines `{"request": digest, "answer": text}`; the last line of a request counts.
        replay: Whether answers are read from the file. Then it must exist.

    Raises:
        UserError: The file is to be replayed and cannot be read, or a line has another form.
    """

    def __init__(self, path: Path, *, replay: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._answers = self._read() if replay else {}

    def find(self, digest: str) -> str | None:
        """The recorded answer, as the endpoint wrote it."""
        return self._answers.get(digest)

    def keep(self, digest: str, answer: str) -> None:
        """Append an answer.

        Raises:
            OutputError: The file cannot be written to.
        """
        line = json.dumps({"request": digest, "answer": answer}) + "\n"
        try:
            with self._lock, self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise OutputError(f"Recording {str(self.path)!r} cannot be written: {error}.") from error

    def _read(self) -> dict[str, str]:
        try:
            lines = split_lines(self.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"Recording {str(self.path)!r} cannot be read: {error}. Record it first, with `replay: false`."
            ) from error
        answers = {}
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                answers[str(entry["request"])] = str(entry["answer"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"Recording {str(self.path)!r}, line {number}: expected "
                    f'{{"request": digest, "answer": text}}, received {line[:60]!r}.'
                ) from error
        return answers
