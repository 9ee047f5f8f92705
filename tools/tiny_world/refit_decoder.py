"""Fit the decoder of the tiny VAE again, so that it also bears the latents that the finished model generates.

    uv run python -m tools.tiny_world.refit_decoder --out refit

The decoder that pretraining starts with has only seen latents of true clips; those that the transformer generates have
errors, by which patches do not fit together. Clips are rendered, their latents noised and denoised by the model, and a
decoder of new weights learns to make the true clip out of them. The encoder, and so the latent space, stays. `vae/` in
`--out` replaces the one of the checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import structlog
import torch

from tools.tiny_world import fit_vae
from tools.tiny_world.dataset import render_dataset
from tools.tiny_world.model import load_pipeline
from tools.tiny_world.pretrain import encode
from worldr1_backbones.tiny import CHECKPOINT
from worldr1_backbones.tiny.vae import TinyWanVAE

log = structlog.get_logger()

NUM_VALIDATION = 96
"""Clips at the end of the set that are measured on."""


def new_decoder(vae: TinyWanVAE) -> TinyWanVAE:
    """A VAE with the same encoder and latent statistics, and a decoder that has not been trained."""
    same = ("z_dim", "latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial")
    fresh = TinyWanVAE(**{name: vae.config[name] for name in same})
    bases = {name: value for name, value in vae.state_dict().items() if name.endswith(fit_vae.ENCODER)}
    fresh.load_state_dict({**fresh.state_dict(), **bases})
    return fresh


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where everything goes.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=CHECKPOINT,
    help="The finished pipeline; the shipped one if left out.",
)
@click.option(
    "--clips", type=click.IntRange(min=NUM_VALIDATION + 32), default=6000, show_default=True, help="Clips to render."
)
@click.option("--steps", type=click.IntRange(min=1), default=10_000, show_default=True, help="Steps of the decoder.")
@click.option(
    "--share", type=click.FloatRange(0, 1), default=0.7, show_default=True, help="Share of generated latents."
)
@click.option("--seed", type=int, default=11, show_default=True)
def main(out: Path, checkpoint: Path, clips: int, steps: int, share: float, seed: int) -> None:
    """Fit a new decoder to a finished checkpoint, and print its figures as a JSON object."""
    frames, captions = render_dataset(out / "data", clips, seed)
    pipeline = load_pipeline(checkpoint)
    torch.manual_seed(0)
    vae = new_decoder(pipeline.vae)
    latents = encode(vae, frames, out / "latents.pt")
    regenerated = fit_vae.regenerate(pipeline, latents, captions, seed=seed)
    training, held_out = slice(0, clips - NUM_VALIDATION), slice(clips - NUM_VALIDATION, clips)

    def report(step: int, loss: float) -> None:
        if step % 500 == 0:
            log.info("fitting the decoder", step=step, loss=round(loss, 5))

    fit_vae.fit_decoder(
        vae, frames[training], steps=steps, regenerated=regenerated[training], share=share, on_step=report
    )
    vae.half().save_pretrained(out / "vae")
    vae.float()  # of the rounded weights, which are measured
    true = fit_vae.to_model_range(frames[held_out])
    with torch.no_grad():
        decoded = vae(true).sample
        generated = vae.decode(regenerated[held_out].float() * fit_vae.latent_scale(vae)).sample
    side = vae.config.scale_factor_spatial
    figures = {
        "psnr": fit_vae.psnr(decoded, true),
        "psnr_generated": fit_vae.psnr(generated, true),
        "block_contrast": fit_vae.block_contrast(decoded, side),
        "block_contrast_generated": fit_vae.block_contrast(generated, side),
        "block_contrast_rendered": fit_vae.block_contrast(true, side),
    }
    click.echo(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
