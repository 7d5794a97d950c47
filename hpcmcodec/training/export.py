"""From trained float weights to a weights file: int8 matrices, float32 vectors, integer CDF tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import QUALITIES
from ..entropy.tables import CdfTables, fitted_tables
from ..errors import HpcmError
from ..models import HPCM, OmniShift
from ..zoo import STEP, TABLES

__all__ = ["export", "fit_tables", "quantise", "write_whole"]

# Below this a tensor is not worth the loss; depthwise kernels and per-quality vectors stay float too.
SMALLEST_MATRIX = 4096

# Symbols further out than this are counted as never seen when tables are fitted.
REACH = 512


def quantise(weight: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """Round to int8 with one step per output channel.

    Args:
        weight: any shape; `dim` is its output dimension.

    Returns:
        int8 values of the same shape, and the float32 steps, ready to multiply them.
    """
    others = [d for d in range(weight.dim()) if d != dim]
    step = weight.abs().amax(others, keepdim=True).clamp_min(1e-12) / 127
    return (weight / step).round().to(torch.int8), step


def _output_dims(model: nn.Module) -> dict[str, int]:
    """Name and output dimension of every weight that is stored as int8."""
    dims = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
            if module.weight.numel() >= SMALLEST_MATRIX and not depthwise:
                dims[f"{name}.weight"] = int(isinstance(module, nn.ConvTranspose2d))
    return dims


def fit_tables(model: HPCM, batches: Iterable[Tensor]) -> CdfTables:
    """CDF tables from the symbols that pictures of training really give.

    Args:
        batches: pictures `B x 3 x H x W` in [0, 1]; all qualities occur within a batch as far as B reaches.
    """
    counts: Tensor | None = None
    lowest, highest = QUALITIES
    for x in batches:
        quality = torch.linspace(lowest, highest, len(x), device=x.device)
        more = model.count_symbols(x, quality, REACH)
        counts = more if counts is None else counts + more
    if counts is None:
        raise ValueError("no pictures to fit tables on")
    return fitted_tables(counts.cpu().numpy(), model.config.sizes.shape)


def _folded(model: nn.Module) -> dict[str, Tensor]:
    """Every OmniShift as the one 5x5 kernel it is equal to; its other branches become zero, as int8."""
    folded: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, OmniShift):
            folded[f"{name}.alpha"] = torch.tensor([0.0, 0.0, 0.0, 1.0])
            folded[f"{name}.large"] = module.kernel()
            for branch in ("point", "small"):
                folded[f"{name}.{branch}"] = torch.zeros_like(getattr(module, branch), dtype=torch.int8)
                folded[f"{name}.{branch}{STEP}"] = torch.ones(1, 1, 1, 1)
    return folded


def export(model: HPCM, path: Path, facts: dict[str, object], tables: CdfTables | None = None) -> None:
    """Write the model's weights in the stored format (see `hpcmcodec.zoo`), whole or not at all.

    Args:
        facts: what the metadata should tell of the training (JSON values).
        tables: CDF tables to store; default: the parametric ones of the model.
    """
    dims = _output_dims(model)
    stored: dict[str, Tensor] = {}
    for name, value in (model.state_dict() | _folded(model)).items():
        value = value.detach().cpu().contiguous()
        if name in dims:
            stored[name], stored[name + STEP] = quantise(value.float(), dims[name])
        else:
            stored[name] = value
    for name, array in (tables or model.tables).to_arrays().items():
        stored[TABLES + name] = torch.tensor(array)
    write_whole(path, stored, {"model": model.config.name, "facts": json.dumps(facts)})


def write_whole(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file beside its place and move it there, so that no half of one is ever seen.

    Raises:
        HpcmError: it cannot be written; what was there before still is.
    """
    part = path.with_suffix(".part")
    try:
        save_file(tensors, part, metadata=metadata)
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name without its bytes
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise HpcmError(f"{path} cannot be written: {error}") from error
