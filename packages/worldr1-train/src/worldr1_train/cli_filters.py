"""Filter for library warnings that are irrelevant for users of the command line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping

UNHELPFUL: Mapping[str, str] = {
    "diffusers.pipelines.pipeline_utils": "Expected types for ",
    "diffusers.models.modeling_utils": "should be kept in float32",
}
"""Logger -> text in the messages to suppress.

Both warnings are expected: our backbones put their own module types into pipelines, and convert every module to the
precision of the manifest.
"""


class _Without(logging.Filter):
    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def filter(self, record: logging.LogRecord) -> bool:
        return self._part not in record.getMessage()


@contextlib.contextmanager
def unhelpful_warnings_left_out() -> Iterator[None]:
    """Suppress the messages of `UNHELPFUL` within the block."""
    filters = [(logging.getLogger(name), _Without(part)) for name, part in UNHELPFUL.items()]
    for logger, without in filters:
        logger.addFilter(without)
    try:
        yield
    finally:
        for logger, without in filters:
            logger.removeFilter(without)
