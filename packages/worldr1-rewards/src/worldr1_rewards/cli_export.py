"""`worldr1 export-nerfstudio`: a clip, its cameras and a fitted model as files that nerfstudio opens."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export-nerfstudio")
@click.argument("video", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--reconstructor", default="nerfstudio", show_default=True, help="Any registered one, with its defaults.")
@click.option(
    "--intrinsics",
    type=click.Path(path_type=Path),
    help="Known intrinsics: JSON, npz, npy or text.  [default: the reconstructor's]",
)
@click.option("--device", default="auto", show_default=True, help="Torch device.")
def export_nerfstudio(video: Path, out: Path, reconstructor: str, intrinsics: Path | None, device: str) -> None:
    """Write VIDEO and its cameras as a nerfstudio data set, with the fitted model where there is one.

    Prints the files to open: `ns-train nerfacto --data OUT`, `ns-viewer --load-config OUT/outputs/.../config.yml`.
    """
    from worldr1_core.compose import build, resolve_device
    from worldr1_core.files import check_writable_folder
    from worldr1_core.manifest import ComponentSpec
    from worldr1_core.plugins import installed
    from worldr1_core.reconstructor import Reconstructor
    from worldr1_rewards.inputs import ScoreRequest, load_clip
    from worldr1_rewards.nerfstudio_export import export_nerfstudio as export

    registry = installed().registry
    clip = load_clip(ScoreRequest(video=video, intrinsics=intrinsics))
    check_writable_folder(out)
    spec = ComponentSpec.model_validate({"name": reconstructor})
    component = build(spec, "reconstructor", Reconstructor, registry, resolve_device(device))
    for path in export(clip, component.reconstruct(clip), out):
        click.echo(path)
