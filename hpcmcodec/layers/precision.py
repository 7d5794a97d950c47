"""Where a model must not lose precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["full_precision"]


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """A context in which operations on x's device keep float32, whatever autocast says."""
    # Tensors without data, on which the cost of a model is counted, know no autocast.
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
