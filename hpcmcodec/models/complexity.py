"""Parameters and multiply-accumulates of a configuration, counted without computing anything."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..ambient import fresh
from ..config import ModelConfig
from .hpcm import HPCM, QUALITY_PARTS, TUNE_PARTS

__all__ = ["complexity"]

SIDE = 512


def _depthwise(x: torch.Size, kernel: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of `hpcm::depthwise`, counted as those of any convolution are: with the zeros around."""
    return 2 * x.numel() * kernel[1:].numel()


def complexity(config: ModelConfig) -> dict[str, int | float]:
    """Count one configuration.

    Returns:
        `parameters`, without the variable-rate vectors; `macs_per_pixel` of encoder and decoder once each
        (g_a, h_a, h_s, context model, g_s; matrix products and convolutions), `decoder_macs_per_pixel`
        (h_s, context model, g_s).
    """
    with fresh(), torch.device("meta"):
        model = HPCM(config).eval()
        # The vectors of quality and tune are this codec's own; published counts leave them out.
        own_parts = QUALITY_PARTS + TUNE_PARTS
        parameters = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(own_parts))
        x = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float32, device="meta")
        quality = torch.ones(1, dtype=torch.float32, device="meta")
        own = {torch.ops.hpcm.depthwise: _depthwise}
        encoder, total = (FlopCounterMode(display=False, custom_mapping=own) for _ in range(2))
        with torch.no_grad():
            with total:
                model(x, quality)
            with encoder:
                model.hyper_analyse(model.analyse(x, quality), quality)
    # The counter gives two operations for each multiply-accumulate.
    whole, analysis = (counter.get_total_flops() / 2 / SIDE**2 for counter in (total, encoder))
    return {"parameters": parameters, "macs_per_pixel": whole, "decoder_macs_per_pixel": whole - analysis}
