"""Operators with one signature and one implementation per device."""

from .biwkv import biwkv_reference, gated_biwkv, gated_biwkv_reference
from .norm import layer_norm, layer_norm_reference, residual_norm, residual_norm_reference

__all__ = [
    "biwkv_reference",
    "gated_biwkv",
    "gated_biwkv_reference",
    "layer_norm",
    "layer_norm_reference",
    "residual_norm",
    "residual_norm_reference",
]
