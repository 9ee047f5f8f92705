"""Warnings of libraries that say nothing to a user of the command line; only the command line leaves them out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping

UNHELPFUL: Mapping[str, str] = {
    "diffusers.pipelines.pipeline_utils": "Expected types for ",
    "diffusers.models.modeling_utils": "should be kept in float32",
}
"""Logger -> part of the message that is left out.

Our backbones put modules of their own types into pipelines, and convert every module to the precision of the manifest.
"""


class _Without(logging.Filter):
    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def filter(self, record: logging.LogRecord) -> bool:
        return self._part not in record.getMessage()


@contextlib.contextmanager
def unhelpful_warnings_left_out() -> Iterator[None]:
    """Leave the messages of `UNHELPFUL` out within the block; all others are shown as ever."""
    filters = [(logging.getLogger(name), _Without(part)) for name, part in UNHELPFUL.items()]
    for logger, without in filters:
        logger.addFilter(without)
    try:
        yield
    finally:
        for logger, without in filters:
            logger.removeFilter(without)
