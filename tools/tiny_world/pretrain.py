"""Make the tiny model from nothing: render clips, fit the VAE, train the transformer, measure, save.

    uv run python -m tools.tiny_world.pretrain --minutes 60 --out tiny-run

Every phase leaves its result in `--out`, and a second call goes on where the first one stopped. `pipeline/` is a
checkpoint that `WanPipeline.from_pretrained` loads; it is written every few minutes from the averaged weights.
"""

from __future__ import annotations

import json
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import structlog
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from tools.tiny_world import fit_vae
from tools.tiny_world.dataset import render_dataset
from tools.tiny_world.flawed_clips import FlawedShares
from tools.tiny_world.model import (
    ModelSize,
    assemble,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
    load_pipeline,
)
from tools.tiny_world.training import FlowMatchingTrainer, TrainingOptions
from worldr1_backbones.adapters import save_adapter
from worldr1_backbones.tiny.scenes import IMAGE_SIZE, NUM_FRAMES
from worldr1_backbones.tiny.vae import TinyWanVAE

log = structlog.get_logger()

NUM_VALIDATION = 256
_PCA_CLIPS = 1500


class JsonLines:
    """A log of one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **values: Any) -> None:
        """Append a line, and tell the console too."""
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        log.info("pretraining", **rounded)


def prepare_vae(out: Path, frames: NDArray[np.uint8], held_out: NDArray[np.uint8], size: ModelSize,
                steps: int, lines: JsonLines, start_from: Path | None = None) -> TinyWanVAE:  # fmt: skip
    """The VAE in `out/vae`, or the one of the checkpoint to start from; fitted first if there is neither."""
    folder = out / "vae" if start_from is None else start_from / "vae"
    if (folder / "config.json").exists():
        vae: TinyWanVAE = TinyWanVAE.from_pretrained(folder)
        return vae
    torch.manual_seed(0)
    vae = TinyWanVAE(z_dim=size.z_dim, latents_mean=[0.0] * size.z_dim, latents_std=[1.0] * size.z_dim)
    fit_vae.fit_bases(vae, fit_vae.to_model_range(frames[:_PCA_CLIPS]))
    lines.write(phase="vae", psnr_linear=fit_vae.reconstruction_psnr(vae, held_out[:128]))

    def report(step: int, loss: float) -> None:
        if step % 200 == 0:
            lines.write(phase="vae", step=step, loss=loss)

    fit_vae.fit_decoder(vae, frames, steps=steps, on_step=report)
    lines.write(phase="vae", psnr=fit_vae.reconstruction_psnr(vae, held_out[:128]))
    vae.save_pretrained(folder)
    return vae


@torch.no_grad()
def encode(vae: TinyWanVAE, frames: NDArray[np.uint8], path: Path | None = None) -> Tensor:
    """Normalised latents `(N, C, F, h, w)` in float16; kept in `path`, and read from there the next time."""
    if path is not None and path.exists():
        stored: Tensor = torch.load(path, weights_only=True)
        if len(stored) == len(frames):
            return stored
    std = fit_vae.latent_scale(vae)
    parts = []
    for begin in range(0, len(frames), 64):
        x = fit_vae.to_model_range(frames[begin : begin + 64])
        parts.append((vae.encode(x).latent_dist.mode() / std).half())
    latents = torch.cat(parts)
    if path is not None:
        torch.save(latents, path)
    return latents


def save_models(out: Path, trainer: FlowMatchingTrainer, vae: TinyWanVAE) -> None:
    """Write the averaged weights as `pipeline/` in half precision and, where only an adapter was trained, it alone."""
    with trainer.averaged():
        transformer = build_transformer_like(trainer)
        if trainer.options.adapter_rank:
            save_adapter(WanPipeline, {"transformer": deepcopy(trainer.transformer).half()}, out / "adapter")
        encoder = UMT5EncoderModel(trainer.encoder.config)
        encoder.load_state_dict(trainer.encoder.state_dict())
    shape = {name: value for name, value in vae.config.items() if not name.startswith("_")}  # no path of this machine
    half: TinyWanVAE = TinyWanVAE.from_config(shape)
    half.load_state_dict(vae.state_dict())
    pipeline = assemble(trainer.tokenizer, encoder, half, transformer)
    pipeline.to(torch.float16)
    pipeline.save_pretrained(out / "pipeline")


def build_transformer_like(trainer: FlowMatchingTrainer) -> Any:
    """A copy of the trained transformer with the attention processors of diffusers, an adapter fused into it."""
    source = trainer.transformer
    if trainer.options.adapter_rank:
        source = deepcopy(source)
        source.fuse_lora()
        source.unload_lora()
    copy = type(source).from_config(source.config)
    copy.load_state_dict(source.state_dict())
    return copy


def train(
    trainer: FlowMatchingTrainer,
    vae: TinyWanVAE,
    validation: tuple[Tensor, list[str]],
    out: Path,
    minutes: float,
    lines: JsonLines,
    save_every: float = 240.0,
) -> None:
    """Train until `minutes` are spent, those of earlier calls included."""
    budget = 60 * minutes
    recent: list[float] = []
    last_log = last_save = trainer.seconds
    seen = trainer.steps
    while trainer.seconds < budget:
        begin = time.monotonic()
        recent.append(trainer.step(trainer.seconds / budget))
        trainer.seconds += time.monotonic() - begin
        if trainer.seconds - last_log > 60:
            rate = (trainer.steps - seen) * trainer.options.batch_size / (trainer.seconds - last_log)
            lines.write(phase="train", minutes=trainer.seconds / 60, step=trainer.steps,
                        samples=trainer.steps * trainer.options.batch_size, loss=sum(recent) / len(recent),
                        val_loss=trainer.evaluate(*validation), samples_per_second=rate)  # fmt: skip
            recent, last_log, seen = [], trainer.seconds, trainer.steps
        if trainer.seconds - last_save > save_every:
            trainer.save(out / "state.pt")
            save_models(out, trainer, vae)
            last_save = trainer.seconds
    trainer.save(out / "state.pt")
    save_models(out, trainer, vae)


def build_trainer(
    size: ModelSize,
    latents: Tensor,
    captions: list[str],
    options: TrainingOptions,
    *,
    start_from: Path | None = None,
    compile_model: bool,
) -> FlowMatchingTrainer:
    """Models with random weights or those of a finished checkpoint of the same shape, ready to be trained."""
    torch.manual_seed(options.seed)
    tokenizer: PreTrainedTokenizerFast = build_tokenizer()
    encoder, transformer = build_text_encoder(size, len(tokenizer)), build_transformer(size)
    if start_from is not None:
        finished = load_pipeline(start_from)
        transformer.load_state_dict(finished.transformer.state_dict())
        encoder.load_state_dict(finished.text_encoder.state_dict())
    return FlowMatchingTrainer(transformer, encoder, tokenizer, latents, captions, options, compile_model=compile_model)


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Training time in all.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where everything goes.")
@click.option("--clips", type=click.IntRange(min=256), default=20_000, show_default=True, help="Clips to render.")
@click.option("--vae-steps", type=click.IntRange(min=0), default=12_000, show_default=True, help="For the decoder.")
@click.option("--layers", type=click.IntRange(1, 32), default=4, show_default=True, help="Transformer blocks.")
@click.option("--heads", type=click.IntRange(1, 32), default=8, show_default=True, help="Heads of 32 channels.")
@click.option("--ffn", type=click.IntRange(32, 8192), default=1024, show_default=True, help="Feed-forward width.")
@click.option("--patch", type=click.Choice(["1", "2"]), default="2", show_default=True, help="Transformer patch.")
@click.option("--batch-size", type=click.IntRange(1, 1024), default=32, show_default=True, help="Clips a step.")
@click.option("--compile", "compile_model", is_flag=True, help="Compile the transformer (needs a C++ compiler).")
@click.option("--evaluate/--no-evaluate", default=True, show_default=True, help="Measure caption following at the end.")
@click.option(
    "--start-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A finished checkpoint of the same shape, whose weights are trained further at --rate.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor of the learning rates.",
)
@click.option(
    "--incoherent",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of clips with a flaw in 3D.",
)
@click.option(
    "--wrong-moves", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of wrong camera words."
)
@click.option(
    "--adapter-rank",
    type=click.IntRange(0, 256),
    default=0,
    show_default=True,
    help="Train a LoRA of this rank instead of all weights, and write it to adapter/ too.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def main(minutes: float, out: Path, clips: int, vae_steps: int, layers: int, heads: int, ffn: int, patch: str,
         batch_size: int, compile_model: bool, evaluate: bool, start_from: Path | None, rate: float,
         incoherent: float, wrong_moves: float, adapter_rank: int, seed: int) -> None:  # fmt: skip
    """Pretrain the tiny world's model on this machine; call it again with the same --out to go on."""
    out.mkdir(parents=True, exist_ok=True)
    lines = JsonLines(out / "log.jsonl")
    size = ModelSize(num_layers=layers, num_heads=heads, ffn_dim=ffn, patch=int(patch))

    def rendered(count: int) -> None:
        if count % 1000 == 0:
            lines.write(phase="render", clips=count)

    shares = FlawedShares(incoherent=incoherent, wrong_moves=wrong_moves) if incoherent or wrong_moves else None
    frames, captions = render_dataset(out / "data", clips, seed, flawed=shares, on_clip=rendered)
    held_out, held_out_captions = render_dataset(out / "heldout", NUM_VALIDATION, seed, held_out=True)
    vae = prepare_vae(out, frames, held_out, size, vae_steps, lines, start_from)
    latents = encode(vae, frames, out / "latents.pt")
    base = TrainingOptions(batch_size=batch_size, seed=seed)
    options = replace(base, muon_lr=base.muon_lr * rate, adam_lr=base.adam_lr * rate, adapter_rank=adapter_rank)
    trainer = build_trainer(size, latents, captions, options, start_from=start_from, compile_model=compile_model)
    if (out / "state.pt").exists():
        trainer.load(out / "state.pt")
    parameters = sum(p.numel() for p in trainer.params)
    lines.write(
        phase="start", parameters=parameters, frames=NUM_FRAMES, pixels=IMAGE_SIZE, minutes=trainer.seconds / 60
    )
    train(trainer, vae, (encode(vae, held_out), held_out_captions), out, minutes, lines)
    if evaluate:
        from tools.tiny_world.evaluate import evaluate_checkpoint

        figures = evaluate_checkpoint(out / "pipeline", sheet=out / "sheet.png")
        (out / "pipeline" / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
        lines.write(phase="evaluate", **figures)


if __name__ == "__main__":
    main()
