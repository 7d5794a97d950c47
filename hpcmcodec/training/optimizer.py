"""Muon for the matrices and AdamW for the vectors, on flat buffers so that a step is a few kernels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..models import QUALITY_PARTS

__all__ = ["FlatParameters", "Optimizer", "orthogonalise"]

# Five Newton-Schulz steps with falling gain: singular values from 1e-3 to 1 end near 1.
NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
SMALLEST_MATRIX_SIDE = 32

# Every parameter starts at a multiple of so many values: matrix products want aligned operands.
ALIGNMENT = 64


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def orthogonalise(x: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: `n x rows x columns` to the same."""
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).float()


class FlatParameters:
    """All parameters of a model as views into one buffer, matrices first, and their gradients likewise.

    A convolution's weight is stored with its input channels last, as channels_last wants it.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        parameters = list(named)
        parameters.sort(key=lambda item: not self._is_matrix(*item))
        device = parameters[0][1].device
        self.names = [name for name, _ in parameters]
        count = sum(_aligned(p.numel()) for _, p in parameters)
        self.data = torch.zeros(count, dtype=torch.float32, device=device)
        self.grad = torch.zeros_like(self.data)
        self.shapes: dict[tuple[int, int], list[int]] = {}
        self.matrices = first = 0
        for name, parameter in parameters:
            view = self._view(self.data, first, parameter)
            view.copy_(parameter.data)
            parameter.data, parameter.grad = view, self._view(self.grad, first, parameter)
            if self._is_matrix(name, parameter):
                rows = parameter.shape[0]
                self.shapes.setdefault((rows, parameter.numel() // rows), []).append(first)
                self.matrices = first + _aligned(parameter.numel())
            first += _aligned(parameter.numel())

    @staticmethod
    def _is_matrix(name: str, p: Tensor) -> bool:
        return (
            p.dim() >= 2
            and min(p.shape[0], p[0].numel()) >= SMALLEST_MATRIX_SIDE
            and not name.startswith(QUALITY_PARTS)
        )

    @staticmethod
    def _view(buffer: Tensor, first: int, p: Tensor) -> Tensor:
        part = buffer[first : first + p.numel()]
        if p.dim() == 4:
            outer, inner, height, width = p.shape
            return part.view(outer, height, width, inner).permute(0, 3, 1, 2)
        return part.view(p.shape)


class Optimizer:
    """One step: clip, Muon on the matrices, AdamW on the rest, exponential moving average.

    Muon (Jordan 2024): Nesterov momentum 0.95, orthogonalised, scaled by sqrt(max(1, rows/columns)).
    A gradient whose norm is above `SPIKE` times the running norm is scaled down to that, and one that is
    not finite counts as zero. The matrices decay by `matrix_decay` of the learning rate in every step
    (Loshchilov and Hutter 2019; for Muon, Liu et al. 2025), which bounds their singular values by
    1 / matrix_decay. Learning rates are device tensors, so that a captured graph follows them.
    """

    MOMENTUM = 0.95
    SPIKE = 2.0
    BETAS = (0.9, 0.98)
    KEPT = ("ema", "momentum", "running_norm")

    def __init__(
        self, flat: FlatParameters, matrix_rate: float, vector_rate: float, matrix_decay: float = 0.0
    ) -> None:
        self.flat = flat
        device, count = flat.data.device, flat.matrices
        self.matrix_rate, self.vector_rate, self.matrix_decay = matrix_rate, vector_rate, matrix_decay
        self.ema = flat.data.clone()
        self.momentum = torch.zeros(count, dtype=torch.float32, device=device)
        self.norm = torch.zeros((), dtype=torch.float32, device=device)
        self.running_norm = torch.zeros((), dtype=torch.float32, device=device)
        self.factor = torch.zeros((), dtype=torch.float32, device=device)
        self.ema_step = torch.ones((), dtype=torch.float32, device=device)
        self.vectors = nn.Parameter(flat.data[count:])
        self.vectors.grad = flat.grad[count:]
        self.rate = torch.zeros((), dtype=torch.float32, device=device)
        fast = flat.data.is_cuda
        self.adam = torch.optim.AdamW(
            [self.vectors], lr=self.rate, betas=self.BETAS, weight_decay=0.0, capturable=fast, fused=fast
        )

    def schedule(self, factor: float, ema_decay: float) -> None:
        """Set the share of the full learning rates, and the decay of the average, for the next steps."""
        self.factor.fill_(factor)
        self.ema_step.fill_(1 - ema_decay)

    @torch.no_grad()
    def step(self) -> None:
        flat = self.flat
        self.norm.copy_(flat.grad.norm())
        finite = self.norm.isfinite()
        norm = torch.where(finite, self.norm, 0.0)
        seen = torch.where(self.running_norm > 0, self.running_norm, norm)
        clipped = norm.minimum(self.SPIKE * seen)
        self.running_norm.copy_(torch.where(finite, torch.lerp(seen, clipped, 0.02), self.running_norm))
        flat.grad.nan_to_num_(0, 0, 0).mul_(clipped / (norm + 1e-12))
        self.rate.copy_(self.factor * self.vector_rate)
        self.adam.step()
        self._muon()
        self.ema.lerp_(flat.data, self.ema_step)

    def _muon(self) -> None:
        flat = self.flat
        grad = flat.grad[: flat.matrices]
        self.momentum.lerp_(grad, 1 - self.MOMENTUM)
        update = torch.lerp(grad, self.momentum, self.MOMENTUM)
        flat.data[: flat.matrices].mul_(1 - self.factor * (self.matrix_rate * self.matrix_decay))
        for (rows, columns), places in flat.shapes.items():
            stacked = torch.stack([update[p : p + rows * columns].view(rows, columns) for p in places])
            scale = self.factor * (self.matrix_rate * max(1.0, rows / columns) ** 0.5)
            for place, change in zip(places, orthogonalise(stacked) * scale, strict=True):
                flat.data[place : place + rows * columns].view(rows, columns).sub_(change)

    def forget(self) -> None:
        """Start the moments and the running norm anew; the weights stay."""
        self.momentum.zero_()
        self.running_norm.zero_()
        for value in self.adam.state[self.vectors].values():
            value.zero_()

    def state(self) -> dict[str, Tensor]:
        """What a later run needs, on the CPU: raw and averaged weights and the moments."""
        adam = self.adam.state[self.vectors]
        state = {name: getattr(self, name) for name in self.KEPT} | {"raw": self.flat.data}
        state |= {f"adam.{name}": value for name, value in adam.items()}
        # A copy also where the CPU is the device: the checkpoint is written while training goes on.
        return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from `state()`."""
        self.flat.data.copy_(state["raw"])
        for name in self.KEPT:
            getattr(self, name).copy_(state[name])
        kept = self.adam.state[self.vectors]
        for name, value in state.items():
            if name.startswith("adam."):
                key = name.removeprefix("adam.")
                on_device = value.to(self.flat.data.device)
                kept[key] = kept[key].copy_(on_device) if key in kept else on_device.clone()
