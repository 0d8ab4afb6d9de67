"""The optimizer and one step of it, without asking the device for a number."""

import math

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from pipeline.config.schema import Config


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW or Adam over the parameters that are trained, in one operation for all of them."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.train.optimizer]
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = config.train.weight_decay
    return kind(trained, lr=config.train.lr, weight_decay=decay, fused=True)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    grad_clip: float,
) -> tuple[Float32[Tensor, ""], Float32[Tensor, ""]]:
    """Clip the gradient to the norm `grad_clip` (0 = off) and take a step with it.

    Returns the gradient's norm before clipping and the loss scale of this step, on the device. With
    a scaler weights stay as they are where the scaled gradient overflowed.
    """
    scaler.unscale_(optimizer)
    limit = grad_clip or math.inf
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), limit, foreach=True)
    loss_scale = scaler.scale(torch.ones_like(grad_norm))
    scaler.step(optimizer)
    scaler.update()
    return grad_norm, loss_scale
