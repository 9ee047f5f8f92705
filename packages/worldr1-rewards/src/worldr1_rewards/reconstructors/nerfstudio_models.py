"""nerfstudio's own models, fitted in memory: no data set on disk, no trainer, no download.

Only this module and `nerfstudio_export` import nerfstudio, and only inside functions: the import takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import ScoreUnavailable, require
from worldr1_rewards.reconstructors.foreign_code import quiet, seeded

EXTRA = "worldr1-rewards[nerfstudio]"
NEAR, FAR = 0.2, 8.0
"""Range along a ray, in scene depths, in which nerfacto looks for surfaces."""
FINEST_CELL = 1.25
"""Side of nerfacto's finest grid cells at the scene's depth, in pixels."""
SEED_POINTS = 20_000
"""Most Gaussians that splatfacto starts from."""
GUIDANCE = 0.03
"""Weight of known depth in nerfacto's loss at the first step; it falls to zero over the first half of the fit."""

# nerfstudio's world has z up. Ours, seen from frame 0, has y down and z forward; the origin moves to the point one
# scene depth ahead, about which viewers turn and nerfacto's grid is centred.
TO_WORLD = torch.tensor(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64
)
_TO_OPENGL = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class FitPlan:
    """Method and length of a fit.

    Attributes:
        method: `"nerfacto"` or `"splatfacto"`.
        iterations: Optimiser steps.
        rays: Rays a step (nerfacto); splatfacto draws one whole frame a step.
    """

    method: str
    iterations: int
    rays: int


class FittedModel:
    """A fitted nerfstudio model that draws views in OpenCV axes and units of the scene depth.

    Attributes:
        model: `nerfstudio.models.base_model.Model`, in evaluation mode.
        plan: How it was fitted.
        loss: Mean of the last tenth of the training losses.
    """

    def __init__(self, model: Any, plan: FitPlan, loss: float) -> None:
        self.model, self.plan, self.loss = model, plan, loss

    @torch.no_grad()
    def draw(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Views of the scene.

        Args:
            c2w: `(N, 4, 4)` camera-to-world, OpenCV axes.
            intrinsics: `(3, 3)` in pixels of `size`.
            size: `(H, W)`.

        Returns:
            RGB `(N, 3, H, W)`, z-depth `(N, H, W)` and opacity `(N, H, W)`, float32 on the CPU.
        """
        with quiet(), seeded(str(self.model.device)):
            cameras = make_cameras(c2w, intrinsics, size).to(self.model.device)
            views = [self._view(cameras, index) for index in range(len(c2w))]
        frames, depth, opacity = (torch.stack(parts).cpu().float() for parts in zip(*views, strict=True))
        return frames.permute(0, 3, 1, 2).clamp(0, 1), depth, opacity.clamp(0, 1)

    def _view(self, cameras: Any, index: int) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model.get_outputs_for_camera(cameras[index : index + 1])
        if self.plan.method == "splatfacto":
            depth = output["depth"][..., 0]
        else:  # a distance along the ray
            norms = cameras.generate_rays(camera_indices=index).metadata["directions_norm"]
            depth = output["expected_depth"][..., 0] / norms[..., 0]
        return output["rgb"], depth.clamp(min=1e-3), output["accumulation"][..., 0]


def fit(frames: Tensor, path: CameraTrajectory, depth: Tensor | None, plan: FitPlan, device: str) -> FittedModel:
    """Fit a model to frames with known cameras.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1].
        path: A pose a frame in units of the scene depth, frame 0 = identity, with intrinsics in pixels of the frames.
        depth: `(T, H, W)` z-depth to start from, where it is known: splatfacto's Gaussians are placed there, and
            nerfacto is drawn towards it in the first half of the fit. Without it geometry starts from nothing.
        plan: What is fitted, and how long.
        device: Torch device.

    Raises:
        MissingExtraError: nerfstudio is not installed.
        ScoreUnavailable: The fit does not converge to finite numbers.
    """
    assert path.intrinsics is not None
    size = int(frames.shape[-2]), int(frames.shape[-1])
    images = frames.detach().permute(0, 2, 3, 1).to(device)
    with quiet(), seeded(device), torch.inference_mode(False), torch.enable_grad():
        cameras = make_cameras(path.c2w, path.intrinsics, size).to(device)
        seeds = _seed_points(frames, path, depth) if plan.method == "splatfacto" else None
        model = build_model(model_config(plan, size), len(frames), seeds).to(device)
        loss = _descend(model, cameras, images, None if depth is None else depth.to(device), plan)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False).grad = None
        if not bool(torch.isfinite(parameter).all()):
            raise ScoreUnavailable(f"the fit of {plan.method} did not converge: its weights are not finite.")
    return FittedModel(model, plan, loss)


def model_config(plan: FitPlan, size: tuple[int, int]) -> Any:
    """The configuration of the model, sized to one short clip."""
    with quiet():
        require("nerfstudio", extra=EXTRA)
        from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
        from nerfstudio.models.nerfacto import NerfactoModelConfig
        from nerfstudio.models.splatfacto import SplatfactoModelConfig
    fixed = CameraOptimizerConfig(mode="off")
    if plan.method == "splatfacto":
        return SplatfactoModelConfig(
            sh_degree=0,
            num_downscales=0,
            background_color="black",
            warmup_length=min(500, plan.iterations // 4),
            stop_split_at=plan.iterations // 2,
            camera_optimizer=fixed,
        )
    # The contracted space is four scene depths wide, and the focal length is about the width.
    finest = int(min(2048, max(64, 4 * max(size) / FINEST_CELL)))
    proposal = {"hidden_dim": 16, "log2_hashmap_size": 12, "num_levels": 4, "max_res": 64, "use_linear": False}
    return NerfactoModelConfig(
        implementation="torch",
        near_plane=NEAR,
        far_plane=FAR,
        num_levels=5,
        features_per_level=4,
        log2_hashmap_size=min(19, max(14, (size[0] * size[1] * 2).bit_length())),
        max_res=finest,
        hidden_dim=32,
        hidden_dim_color=32,
        num_proposal_iterations=1,
        num_proposal_samples_per_ray=(20,),
        num_nerf_samples_per_ray=10,
        proposal_net_args_list=[proposal],
        proposal_warmup=plan.iterations,
        proposal_weights_anneal_max_num_iters=max(1, plan.iterations // 3),
        average_init_density=0.1,
        use_appearance_embedding=False,
        background_color="last_sample",
        camera_optimizer=fixed,
    )


def build_model(config: Any, num_frames: int, seed_points: tuple[Tensor, Tensor] | None = None) -> Any:
    """The model of a configuration, without the LPIPS network that its constructor would download for its metrics."""
    import torchmetrics.image.lpip as lpip
    from nerfstudio.data.scene_box import SceneBox

    box = SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    name = "LearnedPerceptualImagePatchSimilarity"
    original = getattr(lpip, name)
    setattr(lpip, name, _NoMetric)
    try:
        return config.setup(scene_box=box, num_train_data=num_frames, seed_points=seed_points)
    finally:
        setattr(lpip, name, original)


def make_cameras(c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Any:
    """Cameras of nerfstudio (OpenGL axes, its world) for OpenCV poses in units of the scene depth."""
    from nerfstudio.cameras.cameras import Cameras, CameraType

    return Cameras(
        camera_to_worlds=to_nerfstudio(c2w)[:, :3].float(),
        fx=float(intrinsics[0, 0]),
        fy=float(intrinsics[1, 1]),
        cx=float(intrinsics[0, 2]),
        cy=float(intrinsics[1, 2]),
        width=size[1],
        height=size[0],
        camera_type=CameraType.PERSPECTIVE,
    )


def to_nerfstudio(c2w: Tensor) -> Tensor:
    """`(N, 4, 4)` OpenCV poses, frame 0 at the origin, as OpenGL poses in the fitted model's world; float64."""
    return TO_WORLD @ c2w.cpu().double() * _TO_OPENGL


class _NoMetric(nn.Module):
    """Placeholder for a metric that is never called."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


_RATES = {
    "nerfacto": {"proposal_networks": 3e-2, "fields": 3e-2},
    "splatfacto": {
        "means": 2e-3,
        "features_dc": 1e-2,
        "features_rest": 1e-3,
        "opacities": 5e-2,
        "scales": 1e-2,
        "quats": 2e-3,
    },
}
"""Learning rates: nerfstudio's are meant for thirty thousand steps, here are a few hundred."""
_LAST_RATE = 0.05
"""Learning rate of the last step over that of the first."""


def _descend(model: Any, cameras: Any, images: Tensor, depth: Tensor | None, plan: FitPlan) -> float:
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation

    groups = {name: group for name, group in model.get_param_groups().items() if len(group) > 0}
    rates = _RATES[plan.method]
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(group, lr=rates[name], eps=1e-15) for name, group in groups.items()
    }
    attributes: Any = SimpleNamespace(optimizers=optimizers)
    callbacks = model.get_training_callbacks(TrainingCallbackAttributes(attributes, None, None, None))
    decay = _LAST_RATE ** (1 / plan.iterations)
    losses: list[Tensor] = []
    model.train()
    for step in range(plan.iterations):
        for callback in callbacks:
            callback.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        inputs, batch = _draw_batch(cameras, images, depth, plan)
        outputs = model(inputs)
        terms = model.get_loss_dict(outputs, batch, model.get_metrics_dict(outputs, batch))
        loss = torch.stack(list(terms.values())).sum()
        if "depth" in batch and step < plan.iterations // 2:
            expected = outputs["expected_depth"] / inputs.metadata["directions_norm"]
            gap = (expected.clamp(min=1e-3).log() - batch["depth"].log()).abs().mean()
            loss = loss + GUIDANCE * (1 - 2 * step / plan.iterations) * gap
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= decay
        for callback in callbacks:
            callback.run_callback_at_location(step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        losses.append(loss.detach())
    return float(torch.stack(losses[-max(1, plan.iterations // 10) :]).mean())


def _draw_batch(cameras: Any, images: Tensor, depth: Tensor | None, plan: FitPlan) -> tuple[Any, dict[str, Tensor]]:
    """Random rays of all frames, or one random frame."""
    count, height, width = images.shape[:3]
    if plan.method == "splatfacto":
        index = int(torch.randint(count, (1,)))
        return cameras[index : index + 1], {"image": images[index]}
    frame, y, x = (torch.randint(limit, (plan.rays,), device=images.device) for limit in (count, height, width))
    rays = cameras.generate_rays(camera_indices=frame[:, None], coords=torch.stack([y, x], dim=-1) + 0.5)
    batch = {"image": images[frame, y, x]}
    return rays, batch if depth is None else {**batch, "depth": depth[frame, y, x, None]}


def _seed_points(frames: Tensor, path: CameraTrajectory, depth: Tensor | None) -> tuple[Tensor, Tensor]:
    """Points `(N, 3)` in the model's world and their colours `(N, 3)` in [0, 255], drawn from all frames' pixels."""
    from worldr1_rewards.reconstructors.rigid import rays_through

    assert path.intrinsics is not None
    count, _, height, width = frames.shape
    drawn = min(SEED_POINTS, count * height * width)
    frame, y, x = (torch.randint(limit, (drawn,)) for limit in (count, height, width))
    z = 0.4 + 2.0 * torch.rand(drawn) if depth is None else depth[frame, y, x].cpu()
    rays = rays_through(torch.stack([x, y], dim=-1).double() + 0.5, path.intrinsics) * z[:, None].double()
    poses = TO_WORLD @ path.c2w[frame]
    points = (poses[:, :3, :3] @ rays[..., None])[..., 0] + poses[:, :3, 3]
    return points.float(), frames.detach()[frame, :, y, x].cpu() * 255
