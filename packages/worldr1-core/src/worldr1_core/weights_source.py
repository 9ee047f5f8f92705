"""The source of weights, and the error if they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldr1_core.errors import WeightsError

LOCAL_PREFIXES = ("/", "~", ".")
LOCAL_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """A hub id or a local path.

    Attributes:
        name: Hub id (`owner/name`), or a local file or folder.
        revision: Branch, tag or commit on the hub; `None` for the default branch.
        local_files_only: Never ask the network.
    """

    name: str
    revision: str | None = None
    local_files_only: bool = False

    @property
    def is_local(self) -> bool:
        """True if the name is a local file or folder: it exists, or its form shows that a path is meant."""
        return self.name.startswith(LOCAL_PREFIXES) or self.name.endswith(LOCAL_SUFFIXES) or self.path.exists()

    @property
    def path(self) -> Path:
        """The name as a path, with `~` expanded."""
        return Path(self.name).expanduser()

    @property
    def where(self) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained` that say where to look."""
        hub = {} if self.is_local else {"revision": self.revision}
        return {"local_files_only": self.local_files_only or self.is_local, **hub}

    def __str__(self) -> str:
        return str(self.path) if self.is_local else self.name

    def fail(self, what: str, error: BaseException | str) -> WeightsError:
        """The error to raise: what could not be loaded, why, and what to do."""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if self.is_local:
            fix = "Check the path and that the files are complete; download them again if they are damaged."
        elif self.local_files_only:
            fix = f"Download it once with `hf download {self.name}`, or set local_files_only to false."
        else:
            fix = (
                "Check the name and the network. For a machine without one, fetch it elsewhere with "
                f"`hf download {self.name}` and name the folder instead."
            )
        return WeightsError(f"Cannot load {what} from {self.name!r}: {reason.rstrip('.')}. {fix}")
