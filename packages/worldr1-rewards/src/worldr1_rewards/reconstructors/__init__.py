"""Reconstructors that ship with the package: a video in, cameras and a renderable scene out."""
