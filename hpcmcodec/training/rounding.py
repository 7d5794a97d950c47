"""Weights rounded to int8 so that outputs change least on real inputs, and grids fitted to real values.

GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323): weights are rounded input by input, and the error that one
makes is made good by those not yet rounded, weighted by how the inputs go together. Nothing is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..config import QUALITIES
from ..layers.exact import WEIGHT_LEVELS, ExactLinear, Tables, weight_step
from ..models import HPCM
from ..models.exact import from_matrix, to_matrix

__all__ = ["calibrate", "round_by_inputs"]

DAMPING = 0.01
BLOCK = 64
GOLDEN = 0.618034


def round_by_inputs(weight: Tensor, products: Tensor, step: Tensor) -> Tensor:
    """Round a matrix to integers by GPTQ.

    Args:
        weight: `outputs x inputs`.
        products: sum of x x^T over inputs x that the layer was seen with, `inputs x inputs`.
        step: `outputs`, what an integer stands for.

    Returns:
        Integers from -127 to 127, float64 `outputs x inputs`.
    """
    w, h = weight.double().clone(), products.double().clone()
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    # The most important input first: its error then has the most others to be made good by.
    order = h.diagonal().argsort(descending=True)
    w, h = w[:, order], h[order][:, order]
    h.diagonal().add_(DAMPING * h.diagonal().mean())
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    rounded = torch.empty_like(w)
    steps = step.double()
    for first in range(0, w.shape[1], BLOCK):
        last = min(first + BLOCK, w.shape[1])
        errors = w.new_empty(len(w), last - first)
        for i in range(first, last):
            rounded[:, i] = (w[:, i] / steps).round().clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS)
            error = (w[:, i] - rounded[:, i] * steps) / upper[i, i]
            w[:, i + 1 : last] -= error[:, None] * upper[i, i + 1 : last]
            errors[:, i - first] = error
        w[:, last:] -= errors @ upper[first:last, last:]
    return rounded[:, order.argsort()]


def _pass(model: HPCM, batches: Iterable[Tensor]) -> None:
    """Code pictures at all qualities, for what hooks and grids see of it."""
    lowest, highest = QUALITIES
    number = 0
    for x in batches:
        # Multiples of the golden ratio fill the range evenly, wherever one stops.
        share = (torch.arange(number, number + len(x), dtype=torch.float32, device=x.device) * GOLDEN) % 1
        quality = lowest + (highest - lowest) * share
        number += len(x)
        model.count_symbols(x, quality, 1)


def _trial(model: HPCM) -> tuple[HPCM, dict[str, Tensor]]:
    """A copy with exact layers whose grids let values through, and the tables it uses."""
    decay, gate = Tables.compute()
    arrays = {"decay": decay, "gate": gate}
    trial = copy.deepcopy(model).eval().requires_grad_(False)
    trial.use_exact(arrays)
    return trial, arrays


def calibrate(model: HPCM, batches: Sequence[Tensor]) -> tuple[HPCM, dict[str, Tensor]]:
    """Round the entropy path's matrices by GPTQ, and choose its grids.

    Args:
        model: in float; its matrices become multiples of `step`, `outputs`, which each rounded layer then
            has. A layer that has it already is left as it is.
        batches: pictures `B x 3 x H x W` in [0, 1], H and W multiples of 64, as varied as what will be coded.

    Returns:
        A copy that codes with them, and what `HPCM.use_exact` takes.
    """
    trial, _ = _trial(model)
    layers = {m.place: m for m in trial.modules() if isinstance(m, ExactLinear)}
    products = {name: m.step.new_zeros(m.weight.shape[1], m.weight.shape[1]) for name, m in layers.items()}

    def collect(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].flatten(0, -2)
        products[layer.place].addmm_(x.t(), x)  # type: ignore[index]

    hooks = [m.register_forward_pre_hook(collect) for m in layers.values()]
    _pass(trial, batches)
    for hook in hooks:
        hook.remove()
    for name, product in products.items():
        layer = model.get_submodule(name)
        if not hasattr(layer, "step"):
            _round(layer, product)

    trial, arrays = _trial(model)
    _pass(trial, batches)
    for grid in trial.grids().values():
        grid.choose()
    bits = [grid.bits for grid in trial.grids().values()]
    arrays["bits"] = torch.tensor(bits, dtype=torch.int8, device="cpu")
    return trial, arrays


def _round(layer: nn.Module, products: Tensor) -> None:
    assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    matrix = to_matrix(layer)
    outputs = layer.weight.shape[int(isinstance(layer, nn.ConvTranspose2d))]
    step = weight_step(matrix).view(-1, outputs).amax(0)
    steps = step.repeat(len(matrix) // outputs)
    rounded = round_by_inputs(matrix, products, steps)
    with torch.no_grad():
        layer.weight.copy_(from_matrix(layer, rounded * steps.double()[:, None]))
    setattr(layer, "step", step)  # noqa: B010
