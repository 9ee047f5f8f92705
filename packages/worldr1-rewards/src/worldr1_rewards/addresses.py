"""Addresses of videos: paths of this machine, and those of file systems that fsspec opens."""

from __future__ import annotations


def is_remote(path: str) -> bool:
    """Return True for the address of a file system that fsspec opens, such as `s3://bucket/videos`.

    Example:
        >>> is_remote("s3://bucket/videos"), is_remote("videos/clip.mp4")
        (True, False)
    """
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()
