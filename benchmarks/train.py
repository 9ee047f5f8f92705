"""How fast is an iteration of Flow-GRPO-Fast, and how much of it is not the model?

    python benchmarks/train.py --quick       # 10 steps
    python benchmarks/train.py               # 50 steps, groups of 8, a window of 2

A small random WanPipeline (5 blocks of width 256, 64x64, 9 frames, guidance on) is trained on one core. Two loops:

- ours: `FlowGRPOTrainer`. The prefix of the schedule runs once a prompt, and the window is what is trained on.
- the release's: every video has a trajectory of its own, and every step of it is trained on, with the same
  micro-batches, KL term and optimiser.

`outside` is the share of our iteration that is not spent in the denoiser (forward and backward), the VAE or the
rewards. A table goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from backbones.tiny_checkpoints import make_text_encoder, make_tokenizer, wan_vae
from train.runs import make_stage, make_trainer
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_backbones.wan import WanBackbone
from worldr1_core.policy import PolicyRun
from worldr1_core.seeding import generator
from worldr1_train.advantages import clipped_surrogate

SIDE, FRAMES, GROUP = 64, 9, 8


def save_pipeline(folder: Path) -> None:
    """A random Wan of the tiny world's size."""
    from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=8,
        attention_head_dim=32,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=128,
        ffn_dim=768,
        num_layers=5,
        rope_max_seq_len=64,
    )
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    WanPipeline(make_tokenizer(), make_text_encoder("umt5"), wan_vae(), scheduler, transformer).save_pretrained(folder)


def make(folder: Path, steps: int, output: Path, iterations: int) -> Any:
    """A trainer of one group per rollout batch."""
    backbone = WanBackbone(
        path=str(folder), height=SIDE, width=SIDE, num_frames=FRAMES, max_sequence_length=16, guidance_scale=2.0
    )
    return make_trainer(
        output,
        backbone=backbone,
        sampler=FlowSDESampler(num_inference_steps=steps, window=2),
        stages=[make_stage()],
        num_generations=GROUP,
        prompts_per_rollout_batch=1,
        per_device_train_batch_size=GROUP,
        max_steps=iterations,
        learning_rate=1e-4,
        num_sample_videos=0,
    )


class Stopwatch:
    """Seconds spent in functions that do not call each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, holder: Any, name: str, label: str) -> None:
        """Replace a method by one that is timed."""
        inner = getattr(holder, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[label] = self.seconds.get(label, 0.0) + time.perf_counter() - start

        setattr(holder, name, timed)


def measure_ours(folder: Path, steps: int, output: Path, iterations: int) -> dict[str, Any]:
    """Seconds an iteration, and where they go; the first iteration warms up."""
    trainer = make(folder, steps, output, iterations + 1)
    watch = Stopwatch()
    for name, module in trainer.backbone.denoisers.items():
        watch.wrap(module, "forward", f"{name} forward")
    watch.wrap(trainer.backbone, "decode", "vae")
    watch.wrap(trainer.accelerator, "backward", "denoiser backward")
    after_first: dict[str, float] = {}
    begin = trainer._begin_rollout_batch

    def begin_rollout_batch(rollout_batch: int) -> None:
        if rollout_batch == 1:
            after_first.update(watch.seconds)
        begin(rollout_batch)

    trainer._begin_rollout_batch = begin_rollout_batch
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "seconds/rollout_batch" in entry][1:]
    total = sum(entry["seconds/rollout_batch"] for entry in logs)
    parts = {name: seconds - after_first[name] for name, seconds in watch.seconds.items()}
    parts["rewards"] = sum(entry["seconds/waiting"] for entry in logs)
    return {
        "seconds": total / len(logs),
        "outside": 1 - sum(parts.values()) / total,
        "parts": {name: round(seconds / len(logs), 4) for name, seconds in parts.items()},
        "samples_per_second": GROUP * len(logs) / total,
    }


def measure_release(folder: Path, steps: int, output: Path, iterations: int) -> dict[str, Any]:
    """Seconds an iteration of a loop that samples and trains on whole trajectories."""
    trainer = make(folder, steps, output, 1)
    backbone, scheduler, model = trainer.backbone, trainer.scheduler, trainer.model
    optimiser = torch.optim.AdamW(list(model.trainable().values()), lr=1e-4)
    advantages = torch.linspace(-1, 1, GROUP)
    last = steps - 1  # the schedule's last step has no density
    durations = []
    for iteration in range(iterations + 1):
        start = time.perf_counter()
        conditioning = backbone.encode(["a red ball"] * GROUP)
        latents = torch.stack(
            [torch.randn(backbone.geometry.shape, generator=generator(iteration, i)) for i in range(GROUP)]
        )
        run = PolicyRun(window=(0, last), generators=[generator(1, iteration, i) for i in range(GROUP)], record=True)
        rollout = backbone.sample(conditioning, latents, num_inference_steps=steps, scheduler=scheduler, run=run)
        backbone.decode(rollout.latents)
        for step in rollout.steps:
            with torch.no_grad(), backbone.adapter_disabled():
                reference = scheduler.transition(step.point, step.sample, backbone.predict(step))
            density = scheduler.transition(step.point, step.sample, backbone.predict(step))
            loss, _ = clipped_surrogate(
                density.log_prob(step.next_sample), step.log_prob, advantages, clip_low=1e-3, clip_high=1e-3
            )
            ((loss + 0.004 * density.kl(reference)).mean() / last).backward()
        optimiser.step()
        optimiser.zero_grad()
        durations.append(time.perf_counter() - start)
    return {"seconds": sum(durations[1:]) / iterations, "samples_per_second": GROUP * iterations / sum(durations[1:])}


def main() -> None:
    """Measure both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 steps instead of 50")
    parser.add_argument("--iterations", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps = 10 if args.quick else 50
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_pipeline(folder / "wan")
        ours = measure_ours(folder / "wan", steps, folder / "ours", args.iterations)
        peak_ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        release = measure_release(folder / "wan", steps, folder / "release", args.iterations)
        peak_both = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {
        "steps": steps,
        "group_size": GROUP,
        "ours": ours,
        "release": release,
        "speedup": release["seconds"] / ours["seconds"],
        "peak_mib": {"ours": peak_ours, "after_release": peak_both},
    }
    for name in ("ours", "release"):
        print(f"{name:8} {result[name]['seconds']:8.3f} s an iteration", file=sys.stderr)
    print(f"speedup {result['speedup']:.2f}, outside the model {ours['outside']:.1%}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
