"""The HPCM models: transforms, coding schedule, context model and what ties them together."""

from ..entropy import coders
from ..layers import DWConvRB, OmniShift, PConvRB, RWKVBlock
from . import transforms
from .hpcm import HPCM, QUALITY_PARTS, TUNE_PARTS, Compressed
from .windows import STRIDE, analyse_area, synthesise_area

__all__ = [
    "ELEMENTWISE",
    "HPCM",
    "QUALITY_PARTS",
    "REGIONS",
    "STRIDE",
    "TUNE_PARTS",
    "Compressed",
    "OmniShift",
    "analyse_area",
    "synthesise_area",
]

# What is worth compiling for training: (owner, name) of functions that run often with the same shapes, and
# of elementwise ones that run with many.
REGIONS = ((RWKVBlock, "mix"), (PConvRB, "forward"), (DWConvRB, "forward"), (coders, "rate"))
ELEMENTWISE = ((transforms, "modulate"),)
