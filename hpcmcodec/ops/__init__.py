"""Operators with one signature and one implementation per device."""

from .biwkv import biwkv_reference, gated_biwkv, gated_biwkv_reference
from .depthwise import depthwise, depthwise_reference
from .exact import (
    FINE,
    GATE_REACH,
    GATE_STEPS,
    exact_biwkv,
    exact_depthwise,
    exact_gate,
    exact_linear,
    exp_minus,
    exp_of,
)
from .norm import layer_norm, layer_norm_reference, residual_norm, residual_norm_reference
from .pointwise import pointwise_mlp, pointwise_mlp_reference

__all__ = [
    "FINE",
    "GATE_REACH",
    "GATE_STEPS",
    "biwkv_reference",
    "depthwise",
    "depthwise_reference",
    "exact_biwkv",
    "exact_depthwise",
    "exact_gate",
    "exact_linear",
    "exp_minus",
    "exp_of",
    "gated_biwkv",
    "gated_biwkv_reference",
    "layer_norm",
    "layer_norm_reference",
    "pointwise_mlp",
    "pointwise_mlp_reference",
    "residual_norm",
    "residual_norm_reference",
]
