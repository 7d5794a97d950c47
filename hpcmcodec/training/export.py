"""From trained float weights to a weights file: int8 matrices, float32 vectors, tables, grids."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..ambient import fresh
from ..config import QUALITIES
from ..entropy.tables import CdfTables, fitted_tables
from ..errors import ImageError
from ..files import whole_file
from ..models import HPCM, TUNE_PARTS, OmniShift
from ..selftest import entropy_digest
from ..zoo import DIGEST, EXACT, STEP, TABLES, dequantised, difference, give_steps
from .data import read_evenly
from .rounding import calibrate

__all__ = ["export", "fit_tables", "quantise", "varied_batches", "write_tensors"]

# Below this a tensor of the transforms is not worth the loss: the last layer of g_s alone took half of all
# that rounding cost at high quality. Depthwise kernels and per-quality vectors stay float too.
SMALLEST_MATRIX = 8192

# Pictures to round for are cropped to multiples of 64 pixels, 1024 at most.
MULTIPLE, LARGEST = 64, 16

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
            large = module.weight.numel() >= SMALLEST_MATRIX
            if (large or hasattr(module, "step")) and not depthwise:
                dims[f"{name}.weight"] = int(isinstance(module, nn.ConvTranspose2d))
    return dims


def _halves(model: HPCM) -> set[str]:
    """What is stored as float16: the layers that double the resolution in g_s, few weights that all of the
    picture passes through. As int8 they took most of what rounding cost besides the last layer."""
    return {f"g_s.{n}.weight" for n, m in enumerate(model.g_s) if isinstance(m, nn.ConvTranspose2d)}


def fit_tables(model: HPCM, batches: Iterable[Tensor]) -> CdfTables:
    """CDF tables from the symbols that pictures of training really give.

    Args:
        batches: pictures `B x 3 x H x W` in [0, 1]; all qualities occur within a batch as far as B reaches.
    """
    counts: Tensor | None = None
    lowest, highest = QUALITIES
    for x in batches:
        quality = torch.linspace(lowest, highest, len(x), dtype=torch.float32, device=x.device)
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
            folded[f"{name}.alpha"] = module.alpha.new_tensor([0.0, 0.0, 0.0, 1.0])
            folded[f"{name}.large"] = module.kernel()
            for branch in ("point", "small"):
                folded[f"{name}.{branch}"] = torch.zeros_like(getattr(module, branch), dtype=torch.int8)
                folded[f"{name}.{branch}{STEP}"] = torch.ones(1, 1, 1, 1, dtype=torch.float32, device="cpu")
    return folded


@fresh()
def export(
    model: HPCM,
    path: Path,
    facts: dict[str, object],
    batches: Sequence[Tensor],
    kept: Mapping[str, Tensor] = {},
    base: Path | None = None,
    replace: bool = True,
) -> None:
    """Write the model's weights in the stored format (see `hpcmcodec.zoo`), whole or not at all.

    The entropy path is rounded and its grids are chosen on `batches` (see `rounding.calibrate`), then the
    coding tables are fitted to the symbols that it gives on them.

    Args:
        model: in float, which stays as it is.
        facts: what the metadata should tell of the training (JSON values).
        batches: pictures `B x 3 x H x W` in [0, 1], H and W multiples of 64, as varied as what will be coded.
        kept: stored tensors of another file, integers and steps, to take over for parts of the model.
        base: a weights file in the same folder; only what differs from it is stored.
        replace: a file that is there gives way; otherwise it stays, and this fails.

    Raises:
        HpcmError: it cannot be written.
        WeightsError: the base cannot be read.
    """
    rounded = copy.deepcopy(model).eval().requires_grad_(False)
    rounded.load_state_dict(dequantised(kept), strict=False)
    give_steps(rounded, kept)
    coding, exact = calibrate(rounded, batches)
    tables = fit_tables(coding, batches)
    dims, halves = _output_dims(rounded), _halves(rounded)
    stored: dict[str, Tensor] = {}
    for name, value in (rounded.state_dict() | _folded(rounded)).items():
        if name.removesuffix(STEP) in kept:
            continue
        value = value.detach().cpu().contiguous()
        if name.startswith(TUNE_PARTS) and not value.any():
            continue  # not trained: readers fill in zeros
        if name not in dims:
            stored[name] = value
            continue
        if name in halves:
            stored[name] = value.half()
            continue
        step = getattr(rounded.get_submodule(name.removesuffix(".weight")), "step", None)
        if step is None:
            stored[name], stored[name + STEP] = quantise(value.float(), dims[name])
        else:
            shape = [-1 if d == dims[name] else 1 for d in range(value.dim())]
            stored[name + STEP] = step.detach().float().cpu().view(shape)
            stored[name] = (value / stored[name + STEP]).round().to(torch.int8)
    stored |= kept
    for name, array in tables.to_arrays().items():
        stored[TABLES + name] = torch.from_numpy(array.copy())
    for name, tensor in exact.items():
        stored[EXACT + name] = tensor.cpu()
    metadata = {"model": model.config.name, "facts": json.dumps(facts), DIGEST: entropy_digest(coding)}
    if base is not None:
        stored, joined = difference(stored, base)
        metadata |= joined
    write_tensors(path, stored, metadata, replace)


def varied_batches(
    paths: Sequence[Path], count: int, exclude: frozenset[str], device: torch.device
) -> list[Tensor]:
    """Pictures of every kind and size that is there, for `export`: batches of up to four of one size.

    Args:
        paths: folders or tars; `count` pictures are taken evenly over all.
        exclude: file stems to leave out.

    Raises:
        ImageError: a path is neither, or no picture is large enough (64 pixels a side).
    """
    of_size: dict[tuple[int, int], list[Tensor]] = {}
    for pixels in read_evenly(paths, count, exclude):
        height, width = (min(side // MULTIPLE, LARGEST) * MULTIPLE for side in pixels.shape[:2])
        if height and width:
            x = torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1).float() / 255
            of_size.setdefault((height, width), []).append(x)
    if not of_size:
        raise ImageError("no picture is 64 x 64 pixels or larger")
    return [torch.stack(x[i : i + 4]).to(device) for x in of_size.values() for i in range(0, len(x), 4)]


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], replace: bool = True
) -> None:
    """Write a safetensors file whole or not at all; with `replace`, in the place of one that is there.

    Raises:
        HpcmError: it cannot be written; what was there before still is.
    """
    with whole_file(path, replace) as part:
        try:
            save_file(tensors, part, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
