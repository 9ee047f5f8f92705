"""Flow matching of the tiny transformer and its text encoder: the loss, the optimizers, the average, the state."""

from __future__ import annotations

import math
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from tools.tiny_world.model import (
    LONGEST_TEXT_LENGTH,
    MAX_TEXT_LENGTH,
    PaddedTextProcessor,
    encode_captions,
)
from tools.tiny_world.muon import FAST_BFLOAT16, Muon
from worldr1_backbones.adapters import add_adapter
from worldr1_core.backbone import AdapterSpec

ADAPTED_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""Linear layers of a block that an adapter goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """What the optimisation is set to.

    Attributes:
        batch_size: Clips a step.
        muon_lr: Step of Muon, for the blocks' matrices.
        adam_lr: Step of AdamW, for everything else.
        caption_dropout: Share of captions that are left out, so that guidance can be used.
        long_text: Share of steps with text padded beyond `MAX_TEXT_LENGTH`, up to `LONGEST_TEXT_LENGTH`.
        ema_decay: Of the average that is saved.
        final_lr: Share of the step sizes at the end; they fall from a quarter of the time on.
        warmup: Steps of linear warm-up.
        adapter_rank: Train a LoRA of this rank on every linear layer of the blocks, with AdamW, and nothing else; all
            weights if 0.
        seed: Of everything that is drawn.
    """

    batch_size: int = 32
    muon_lr: float = 1e-2
    adam_lr: float = 2e-3
    caption_dropout: float = 0.1
    long_text: float = 0.3
    ema_decay: float = 0.998
    final_lr: float = 0.03
    warmup: int = 50
    adapter_rank: int = 0
    seed: int = 0


def sample_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Noise levels `(count,)` in (0, 1): logit-normal, one in ten uniform, then shifted by 2 towards noise.

    Logit-normal times are those of Esser et al. 2024; the shift puts the weight where sampling with shift 3 spends
    its steps, and where the camera's path is decided.
    """
    times = torch.sigmoid(torch.randn(count, generator=generator) + 0.3)
    uniform = torch.rand(count, generator=generator)
    times = torch.where(torch.rand(count, generator=generator) < 0.1, uniform, times)
    return 2 * times / (1 + times)


def padding_bias(lengths: Tensor, total: Tensor | int) -> Tensor:
    """Logits that make `MAX_TEXT_LENGTH` tokens weigh as if the text were padded to `total`.

    Args:
        lengths: Tokens of each caption, `(B,)`.
        total: Length to imitate, at least `MAX_TEXT_LENGTH`.

    Returns:
        `(B, 1, 1, MAX_TEXT_LENGTH)`: zero at tokens, the logarithm of how many each padding token stands for elsewhere.
    """
    weight = ((total - lengths) / (MAX_TEXT_LENGTH - lengths)).log()
    position = torch.arange(MAX_TEXT_LENGTH)
    return torch.where(position >= lengths[:, None], weight[:, None], 0.0)[:, None, None]


class FlowMatchingTrainer:
    """Trains a transformer and a text encoder on latents and captions, in bfloat16 where that is faster.

    Args:
        transformer: Trained in place.
        encoder: Trained in place.
        tokenizer: Of the captions.
        latents: `(N, C, F, h, w)`, normalised, any float type.
        captions: One for each.
        options: See `TrainingOptions`.
        compile_model: Compile the transformer, which takes minutes and then saves a third of every step.
    """

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        encoder: UMT5EncoderModel,
        tokenizer: PreTrainedTokenizerFast,
        latents: Tensor,
        captions: list[str],
        options: TrainingOptions,
        *,
        compile_model: bool = False,
    ) -> None:
        self.transformer, self.encoder, self.tokenizer, self.options = transformer, encoder, tokenizer, options
        self.latents = latents
        self.ids, self.mask = self.tokenize([*captions, ""])
        self._processor = PaddedTextProcessor()
        for block in transformer.blocks:
            block.attn2.set_processor(self._processor)
        self._model = torch.compile(transformer) if compile_model else transformer
        if options.adapter_rank:
            spec = AdapterSpec(options.adapter_rank, alpha=options.adapter_rank, seed=options.seed)
            add_adapter({"transformer": transformer}, spec, ADAPTED_LAYERS)
            encoder.requires_grad_(False)
            matrices = []
        else:
            matrices = [p for n, p in transformer.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
        known = {id(p) for p in matrices}
        trained = [p for module in (transformer, encoder) for p in module.parameters() if p.requires_grad]
        others = [p for p in trained if id(p) not in known]
        self.params = [*matrices, *others]
        self.optimizers: dict[torch.optim.Optimizer, float] = {}
        """Optimizer -> its learning rate before warm-up and decay."""
        if matrices:
            self.optimizers[Muon(matrices, lr=options.muon_lr)] = options.muon_lr
        adamw = torch.optim.AdamW(others, lr=options.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.optimizers[adamw] = options.adam_lr
        self.average = [p.detach().clone() for p in self.params]
        self.steps, self.seconds = 0, 0.0

    def tokenize(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask, each `(N, MAX_TEXT_LENGTH)`."""
        tokens = self.tokenizer(captions, padding="max_length", max_length=MAX_TEXT_LENGTH, return_tensors="pt")
        return tokens.input_ids, tokens.attention_mask

    def step(self, progress: float) -> float:
        """One update.

        Args:
            progress: Share of the training that is done, in [0, 1]: sets the step sizes.

        Returns:
            The loss.
        """
        options = self.options
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + self.steps)
        index = torch.randint(len(self.latents), (options.batch_size,), generator=generator)
        x0 = self.latents[index].float()
        sigma = sample_sigmas(options.batch_size, generator)
        dropped = torch.rand(options.batch_size, generator=generator) < options.caption_dropout
        caption = torch.where(dropped, len(self.latents), index)
        total = torch.tensor(MAX_TEXT_LENGTH)
        if float(torch.rand((), generator=generator)) < options.long_text:
            ratio = math.log(LONGEST_TEXT_LENGTH / MAX_TEXT_LENGTH)
            total = MAX_TEXT_LENGTH * torch.exp(ratio * torch.rand((), generator=generator))
        noise = torch.randn(x0.shape, generator=generator)
        loss = self._loss(x0, noise, sigma, self.ids[caption], self.mask[caption], total)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self._update(progress)
        return loss.item()

    @torch.no_grad()
    def evaluate(self, latents: Tensor, captions: list[str], seed: int = 0) -> float:
        """Loss of the average on other clips, with noise and noise levels that depend on the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        ids, mask = self.tokenize(captions)
        with self.averaged():
            losses = [
                self._loss(
                    x0.float(),
                    torch.randn(x0.shape, generator=generator),
                    sample_sigmas(len(x0), generator),
                    i,
                    m,
                    torch.tensor(MAX_TEXT_LENGTH),
                ).item()
                for x0, i, m in zip(latents.split(64), ids.split(64), mask.split(64), strict=True)
                if len(x0) == 64
            ]
        return sum(losses) / len(losses)

    def averaged(self) -> _Swapped:
        """A context in which the models hold the average of their weights."""
        return _Swapped(self.params, self.average)

    def save(self, path: Path) -> None:
        """Write everything that going on needs; the file is replaced at once, never half."""
        state = {
            "transformer": self.transformer.state_dict(),
            "encoder": self.encoder.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
            "seconds": self.seconds,
        }
        scratch = path.with_suffix(".partial")
        torch.save(state, scratch)
        os.replace(scratch, path)

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.transformer.load_state_dict(state["transformer"])
        self.encoder.load_state_dict(state["encoder"])
        self.average = state["average"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.steps, self.seconds = state["steps"], state["seconds"]

    def _loss(self, x0: Tensor, noise: Tensor, sigma: Tensor, ids: Tensor, mask: Tensor, total: Tensor) -> Tensor:
        """Mean squared error of the velocity, noise - x0 (rectified flow)."""
        self._processor.bias = padding_bias(mask.sum(1), total)
        text = encode_captions(self.encoder, ids, mask)
        level = sigma.view(-1, 1, 1, 1, 1)
        x = (1 - level) * x0 + level * noise
        # The fused attention of CPUs has a backward pass that is slower than the plain formula at these sizes.
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BFLOAT16), sdpa_kernel(SDPBackend.MATH):
            # Only steps are compiled: measuring has another batch size, and would compile once more.
            model = self._model if torch.is_grad_enabled() else self.transformer
            velocity = model(x, sigma * 1000, text, return_dict=False)[0]
        return (velocity.float() - (noise - x0)).pow(2).mean()

    def _update(self, progress: float) -> None:
        options = self.options
        fall = 1 - (1 - options.final_lr) * max(0.0, min(1.0, progress) - 0.25) / 0.75
        factor = min(1.0, (self.steps + 1) / options.warmup) * fall
        for optimizer, base in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = base * factor
            optimizer.step()
            optimizer.zero_grad()
        self.steps += 1
        decay = min(options.ema_decay, (self.steps + 1) / (self.steps + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1 - decay)


class _Swapped(nullcontext[None]):
    """Puts other values into parameters, and theirs back at the end."""

    def __init__(self, params: list[nn.Parameter], values: list[Tensor]) -> None:
        super().__init__()
        self.params, self.values = params, values

    def __enter__(self) -> None:
        self._own = [p.detach().clone() for p in self.params]
        self._set(self.values)

    def __exit__(self, *exc: object) -> None:
        self._set(self._own)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.params, values, strict=True):
            parameter.copy_(value)
