"""The small blocks that the transforms and the context model are made of."""

from .attention import CrossAttentionCell
from .conv import DWConvRB, PConvRB
from .precision import full_precision
from .rwkv import OmniShift, RWKVBlock, RWKVContextCell, folded_once

__all__ = [
    "CrossAttentionCell",
    "DWConvRB",
    "OmniShift",
    "PConvRB",
    "RWKVBlock",
    "RWKVContextCell",
    "folded_once",
    "full_precision",
]
