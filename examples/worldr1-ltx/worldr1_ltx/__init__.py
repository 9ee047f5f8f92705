"""The backbone `ltx` of World-R1."""

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_backbones():
    return {"ltx": "worldr1_ltx.backbone:LTXBackbone"}
