"""Operators with one signature and one implementation per device."""

from .biwkv import biwkv_reference, gated_biwkv, gated_biwkv_reference
from .depthwise import depthwise, depthwise_reference
from .norm import layer_norm, layer_norm_reference, residual_norm, residual_norm_reference
from .pointwise import pointwise_mlp, pointwise_mlp_reference

__all__ = [
    "biwkv_reference",
    "depthwise",
    "depthwise_reference",
    "gated_biwkv",
    "gated_biwkv_reference",
    "layer_norm",
    "layer_norm_reference",
    "pointwise_mlp",
    "pointwise_mlp_reference",
    "residual_norm",
    "residual_norm_reference",
]
