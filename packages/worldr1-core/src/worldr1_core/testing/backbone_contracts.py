"""Every contract of `worldr1_core.backbone.Backbone`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from worldr1_core.backbone import Backbone
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyRun
from worldr1_core.testing import isolation
from worldr1_core.testing.backbone_subject import BackboneSubject, distance
from worldr1_core.testing.failures import CheckFailed, CheckSkipped, checking
from worldr1_core.testing.report import Contract
from worldr1_core.testing.subject import COMPONENT_CONTRACTS, device_contract


def _require_equal(first: Tensor, second: Tensor, what: str) -> None:
    if (difference := distance(first, second)) != 0.0:
        raise CheckFailed(f"{what} differ by up to {difference:.3g}, expected 0")


def _require_tensor(tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        raise CheckFailed(f"{what} are {tuple(tensor.shape)} {tensor.dtype}, expected {shape} torch.float32")
    if not bool(torch.isfinite(tensor).all()):
        raise CheckFailed(f"{what} hold NaN or infinite values")


def _geometry(subject: BackboneSubject) -> None:
    geometry = subject.component.geometry
    video = (geometry.num_frames - 1) * geometry.temporal_stride + 1
    expected = (video, geometry.height * geometry.spatial_stride, geometry.width * geometry.spatial_stride)
    if (geometry.video_frames, geometry.video_height, geometry.video_width) != expected:
        raise CheckFailed(f"{geometry!r} is not consistent: its strides make {expected} (T, H, W) of the latent")
    latents = subject.rollout.latents
    _require_tensor(latents, (2, *geometry.shape), "latents")
    frames = subject.component.decode(latents)
    _require_tensor(frames, (2, video, 3, *expected[1:]), "decoded frames")
    if frames.device.type != "cpu" or float(frames.min()) < 0 or float(frames.max()) > 1:
        raise CheckFailed(f"frames span [{float(frames.min()):.4g}, {float(frames.max()):.4g}] on {frames.device}")


def _encode_video(subject: BackboneSubject) -> None:
    videos = subject.videos
    try:
        latents = subject.component.encode_video(videos)
    except UserError as error:
        raise CheckSkipped(f"videos are not encoded: {error}") from error
    _require_tensor(latents, (2, *subject.component.geometry.shape), "latents of two videos")
    if latents.requires_grad:
        raise CheckFailed("latents of videos keep a gradient")
    if not subject.close(latents[1:], subject.component.encode_video(videos[1:])):
        raise CheckFailed("the latents of a video depend on the video beside it")
    isolation.check_unchanged({"frames": videos}, lambda: subject.component.encode_video(videos))
    if subject.round_trip is None:
        return
    difference = float((subject.component.decode(latents) - videos).square().mean().sqrt())
    if difference > subject.round_trip:
        raise CheckFailed(f"decoded encoded videos are {difference:.3g} off (RMS), allowed {subject.round_trip:.3g}")


def _encode(subject: BackboneSubject) -> None:
    both = subject.conditioning
    if tuple(both.prompts) != tuple(subject.prompts) or not both.tensors:
        raise CheckFailed(f"{subject.prompts} became {both.prompts!r} with tensors {sorted(both.tensors)}")
    singles = [subject.component.encode([prompt]) for prompt in subject.prompts]
    for name, tensor in both.tensors.items():
        if tensor.shape[0] != 2 or tensor.requires_grad:
            raise CheckFailed(
                f"{name!r} is {tuple(tensor.shape)}, requires_grad {tensor.requires_grad}: expected (2, ...)"
            )
        if not subject.close(tensor, torch.cat([single.tensors[name] for single in singles])):
            raise CheckFailed(f"{name!r} of a prompt depends on the prompt beside it")
    if not any(distance(tensor[0], tensor[1]) > 0 for tensor in both.tensors.values()):
        raise CheckFailed("two different prompts are encoded alike")


def _records(subject: BackboneSubject) -> None:
    steps, (begin, end) = subject.rollout.steps, subject.window
    indices = [step.point.index for step in steps]
    if indices != list(range(begin, end)):
        raise CheckFailed(f"a window of steps {begin} to {end - 1} recorded steps {indices}")
    for step in steps:
        if not step.calls:
            raise CheckFailed(f"step {step.point.index} was recorded without a denoiser call")
        if unknown := {call.module for call in step.calls} - subject.component.denoisers.keys():
            raise CheckFailed(f"calls of {sorted(unknown)} were recorded, which `denoisers` does not name")
    first = steps[0].sample.flatten(1).sort().values
    if not subject.close(first.cpu(), subject.noises.flatten(1).sort().values):
        raise CheckFailed("the values before step 0 are not those of the latents that were handed in")
    if subject.sample(record=False).steps:
        raise CheckFailed("steps were recorded although record is off")


def _replay(subject: BackboneSubject) -> None:
    policy = _with_schedule(subject)
    for step in subject.rollout.steps:
        again = policy(step, subject.component.predict(step))
        _require_equal(again.mean, step.mean, f"replayed and recorded mean of step {step.point.index}")
        _require_equal(again.log_prob(step.next_sample), step.log_prob, "replayed and recorded log-probabilities")


def _with_schedule(subject: BackboneSubject) -> Callable:
    scheduler = subject.policy(subject.component)
    return lambda step, output: scheduler.transition(step.point, step.sample, output)


def _rows(subject: BackboneSubject) -> None:
    step = subject.rollout.steps[0]
    whole = subject.component.predict(step).detach()
    for rows in ([1], [1, 0, 1]):
        part = subject.component.predict(subject.component.select_step(step, rows)).detach()
        if not subject.close(part, whole[rows]):
            raise CheckFailed(f"rows {rows} of a step are predicted otherwise than in the whole batch")


def _seeds(subject: BackboneSubject) -> None:
    again = subject.sample()
    _require_equal(again.latents, subject.rollout.latents, "latents of two runs with the same generators")
    if distance(subject.sample(seed=1).latents, again.latents) == 0:
        raise CheckFailed("other generators gave the same latents: stochastic steps do not use them")


def _batch_mates(subject: BackboneSubject) -> None:
    both = subject.steer()
    for row in range(2):
        alone = subject.steer(conditioning=subject.conditioning.select([row]), latents=subject.noises[[row]])
        if not subject.close(both[[row]], alone):
            raise CheckFailed(f"sample {row} is {distance(both[[row]], alone):.3g} off where it is sampled alone")


def _segments(subject: BackboneSubject) -> None:
    whole = subject.steer()
    for cut in range(1, subject.num_steps):
        middle = subject.steer(segment=(0, cut))
        parts = subject.steer(latents=middle, segment=(cut, subject.num_steps))
        _require_equal(parts, whole, f"one run and two segments cut at step {cut}")


def _step_delta(subject: BackboneSubject) -> None:
    delta, weights = torch.flip(subject.noises, [0]), (0.5,)
    injected = subject.steer(step_delta=delta, step_weights=weights)
    first = subject.steer(segment=(0, 1))
    by_hand = PolicyRun(step_delta=delta, step_weights=weights).inject(0, first)
    expected = subject.steer(latents=by_hand, segment=(1, subject.num_steps))
    if not subject.close(injected, expected):
        raise CheckFailed(f"a delta after step 0 is {distance(injected, expected):.3g} off from adding it by hand")
    if subject.close(injected, subject.steer()):
        raise CheckFailed("a delta had no effect")


def _gradients(subject: BackboneSubject) -> None:
    backbone = subject.adapted
    trainable = dict(backbone.trainable_parameters())
    if not trainable:
        raise CheckFailed("after add_adapter nothing is trainable")
    if other := [name for name, p in trainable.items() if p.dtype != torch.float32]:
        raise CheckFailed(f"trainable parameters {other[:3]} are not float32")
    for step in subject.sample(backbone).steps:
        prediction = backbone.predict(step)
        if not prediction.requires_grad:
            raise CheckFailed(
                f"the prediction of step {step.point.index} has no gradient: it was detached, or computed under "
                "torch.no_grad"
            )
        prediction.square().mean().backward()
    without = [n for n, p in trainable.items() if p.grad is None or float(p.grad.abs().sum()) == 0.0]
    broken = [n for n, p in trainable.items() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    frozen = [
        f"{name}.{inner}"
        for name, module in backbone.denoisers.items()
        for inner, p in module.named_parameters()
        if p.grad is not None and f"{name}.{inner}" not in trainable
    ]
    for parameter in trainable.values():
        parameter.grad = None
    for names, what in ((without, "no gradient"), (broken, "a gradient that is not finite")):
        if names:
            raise CheckFailed(f"{len(names)} of {len(trainable)} trainable parameters got {what}: {names[:3]}")
    if frozen:
        raise CheckFailed(f"frozen parameters got gradients: {frozen[:3]}")


def _no_effect(subject: BackboneSubject) -> None:
    backbone = subject.unshared()
    before = subject.steer(backbone)
    backbone.add_adapter(subject.adapter)
    _require_equal(subject.steer(backbone), before, "latents before and after a fresh adapter")
    trainable = [name for name, _ in backbone.trainable_parameters()]
    base = [n for n in trainable if "lora" not in n.lower() and "adapter" not in n.lower()]
    if len(base) == len(trainable):
        return  # names tell nothing here
    if base:
        raise CheckFailed(f"the model itself is trainable beside its adapter: {base[:3]}")


def _disabled(subject: BackboneSubject) -> None:
    backbone = subject.adapted
    plain, trained = subject.steer(), subject.steer(backbone)
    if distance(plain, trained) == 0:
        raise CheckFailed("an adapter with weights has no effect")
    flags = {name for name, _ in backbone.trainable_parameters()}
    with backbone.adapter_disabled():
        disabled = subject.steer(backbone)
    _require_equal(disabled, plain, "latents with the adapter disabled and without one")
    _require_equal(subject.steer(backbone), trained, "latents before and after the block")
    if {name for name, _ in backbone.trainable_parameters()} != flags:
        raise CheckFailed("the block changed which parameters are trainable")


def _round_trip(subject: BackboneSubject) -> None:
    expected = subject.steer(subject.adapted)
    names = [name for name, _ in subject.adapted.trainable_parameters()]
    trained, frozen = subject.unshared(), subject.unshared()
    with tempfile.TemporaryDirectory() as folder:
        subject.adapted.save_adapter(Path(folder) / "adapter")
        trained.load_adapter(Path(folder) / "adapter", trainable=True)
        frozen.load_adapter(Path(folder) / "adapter")
    _require_equal(subject.steer(trained), expected, "latents with the adapter and with the one that was read again")
    if [name for name, _ in trained.trainable_parameters()] != names:
        raise CheckFailed("after load_adapter(..., trainable=True) other parameters are trainable than were saved")
    # torch chooses its matrix products by requires_grad too, so that a frozen adapter may round otherwise.
    if not subject.close(subject.steer(frozen), expected):
        raise CheckFailed(f"a frozen adapter is {distance(subject.steer(frozen), expected):.3g} off")
    if trainable := [name for name, _ in frozen.trainable_parameters()]:
        raise CheckFailed(f"an adapter that was read is trainable: {trainable[:3]}")


def _second_adapter(subject: BackboneSubject) -> None:
    backbone = subject.adapted
    with checking("a second adapter"):
        try:
            backbone.add_adapter(subject.adapter)
        except UserError:
            return
    raise CheckFailed("a second adapter was accepted")


def _bad_latents(subject: BackboneSubject) -> None:
    broken = subject.noises.clone()
    broken[1].flatten()[0] = float("nan")
    for what, latents in (("NaN in the latents", broken), ("latents of another size", subject.noises[..., :-1])):
        try:
            subject.steer(latents=latents)
        except UserError:
            continue
        except Exception as error:
            raise CheckFailed(f"{what} raised {type(error).__name__}: {error}") from error
        raise CheckFailed(f"{what} were accepted")


def _whole(subject: BackboneSubject) -> object:
    conditioning = subject.component.encode(subject.prompts)
    rollout = subject.sample(conditioning=conditioning)
    return subject.component.decode(rollout.latents[:1])


def _inputs_unchanged(subject: BackboneSubject) -> None:
    tensors = {"latents": subject.noises, **subject.conditioning.tensors}
    isolation.check_unchanged(tensors, subject.sample)
    latents = subject.rollout.latents
    isolation.check_unchanged({"latents": latents}, lambda: subject.component.decode(latents))


def _same_on_device(subject: BackboneSubject, backbone: Backbone) -> None:
    here = subject.steer()
    there = subject.steer(backbone, conditioning=backbone.encode(subject.prompts)).cpu()
    if distance(there, here) > 0.05 * max(1.0, float(here.abs().max())):
        raise CheckFailed(f"latents are {distance(there, here):.3g} off those on the CPU")


BACKBONE_CONTRACTS: list[Contract[BackboneSubject]] = [
    *COMPONENT_CONTRACTS,
    Contract(
        "geometry",
        "noise is drawn and videos are scored at the sizes that `geometry` states",
        "return latents (B, C, T, H, W) of geometry.shape and frames (B, T, 3, H, W) in [0, 1], float32, on the CPU",
        _geometry,
    ),
    Contract(
        "encode",
        "prompts are encoded in batches and selected by row",
        "pad every prompt to one length; give each tensor the batch as first dimension; no gradients",
        _encode,
    ),
    Contract(
        "encode-video",
        "the flow-matching loss of true clips is measured on their latents",
        "return the posterior's mode (B, C, T, H, W), normalised and padded as the denoisers see it; or leave "
        "encode_video out",
        _encode_video,
    ),
    Contract(
        "records-the-window",
        "training needs every stochastic step with the denoiser calls that led to it",
        "append a DenoiserCall to run.calls before the scheduler steps, for the modules that `denoisers` names",
        _records,
    ),
    Contract(
        "replay-is-exact",
        "a replay that differs is another policy: the importance ratio is not 1 before the first update",
        "record the denoiser's arguments as it received them; combine guidance as the pipeline does, in its dtype",
        _replay,
    ),
    Contract(
        "rows-of-a-step",
        "updates are made on some samples of a rollout",
        "name arguments that belong to no single sample in shared_arguments",
        _rows,
    ),
    Contract(
        "seeds-reproduce",
        "runs must be reproducible, and members of a group must differ",
        "draw from the run's generators alone; seed nothing else",
        _seeds,
    ),
    Contract(
        "batch-mates",
        "the batch size is a matter of memory and must not change a video",
        "keep samples apart; make no statistic over the batch",
        _batch_mates,
    ),
    Contract(
        "segments-compose",
        "a group shares its deterministic prefix",
        "return the scheduler's float32 sample (run.final), not the pipeline's rounded copy",
        _segments,
    ),
    Contract(
        "step-delta",
        "noise conditioners inject their signal after early steps",
        "bring run.step_delta into the pipeline's layout",
        _step_delta,
    ),
    Contract(
        "gradients",
        "what gets no gradient is not trained, and what is frozen must stay",
        "call the denoiser with gradients on in predict; freeze all but the adapter",
        _gradients,
    ),
    Contract(
        "adapter-starts-without-effect",
        "training must begin at the model itself",
        "let one factor of the adapter be zero; freeze the model",
        _no_effect,
    ),
    Contract(
        "adapter-disabled",
        "the KL term compares with the model before training",
        "switch every adapter off inside the block and on after it, and leave requires_grad alone",
        _disabled,
    ),
    Contract(
        "adapter-round-trip",
        "a checkpoint must be the model that was evaluated",
        "save the adapter's scale too, and keep its weights float32",
        _round_trip,
    ),
    Contract(
        "one-adapter",
        "a second adapter on top of a first one would train neither alone",
        "raise UserError in add_adapter where there is one already",
        _second_adapter,
    ),
    Contract(
        "refuses-bad-latents",
        "NaN in the noise becomes a black video with a score",
        "raise UserError where latents are not finite or not of geometry.shape",
        _bad_latents,
    ),
    Contract(
        "inputs-unchanged",
        "the caller goes on with its latents and embeddings",
        "avoid in-place operations",
        _inputs_unchanged,
    ),
    Contract(
        "leaves-random-state",
        "backbones run between the draws of a training loop; moving the global generator changes the samples",
        "pass generators of your own to the pipeline",
        lambda subject: isolation.check_leaves_random_state(lambda: _whole(subject)),
    ),
    Contract(
        "prints-nothing",
        "stdout holds JSON lines that other programs read",
        "log with worldr1_core.log.get_logger; switch the pipeline's progress bar off",
        lambda subject: isolation.check_prints_nothing(lambda: _whole(subject)),
    ),
    device_contract(_same_on_device),
]
"""All contracts of a backbone."""
