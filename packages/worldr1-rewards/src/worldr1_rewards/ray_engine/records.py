"""Finished records in a folder or bucket, one small file each, so that an interrupted command can be continued."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from worldr1_core.errors import OutputError, require
from worldr1_core.files import atomic_write_text
from worldr1_rewards.ray_engine.cluster import EXTRA

_SUFFIX = ".json"


class RecordStore:
    """Texts by the fingerprint of what they were made from.

    Args:
        url: Folder or address of a bucket; created if it does not exist.

    Raises:
        OutputError: It cannot be read or written.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        fsspec = require("fsspec", extra=EXTRA)
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
            self._system.makedirs(self._root, exist_ok=True)
            names = self._system.ls(self._root, detail=False)
        except Exception as error:
            raise OutputError(
                f"Records cannot be kept in {url!r}: {error}. Choose a place you may write to."
            ) from error
        self._known = {PurePosixPath(name).name for name in names}

    def read(self, fingerprints: Collection[str]) -> dict[str, str]:
        """Return the texts that an earlier run has kept.

        Raises:
            OutputError: One cannot be read.
        """
        found = {}
        for fingerprint in fingerprints:
            if f"{fingerprint}{_SUFFIX}" in self._known:
                try:
                    found[fingerprint] = self._system.cat_file(self._path(fingerprint)).decode("utf-8")
                except Exception as error:
                    raise OutputError(f"A record in {self._url!r} cannot be read: {error}.") from error
        return found

    def keep(self, fingerprint: str, text: str) -> None:
        """Keep a text; it is complete or not there, whenever the process ends.

        Raises:
            OutputError: It cannot be written.
        """
        path = self._path(fingerprint)
        if self._is_local:
            atomic_write_text(path, text)
            return
        try:
            self._system.pipe_file(path, text.encode("utf-8"))
        except Exception as error:
            raise OutputError(f"Records cannot be kept in {self._url!r}: {error}.") from error

    @property
    def _is_local(self) -> bool:
        return "file" in ([self._system.protocol] if isinstance(self._system.protocol, str) else self._system.protocol)

    def _path(self, fingerprint: str) -> str:
        return f"{self._root.rstrip('/')}/{fingerprint}{_SUFFIX}"
