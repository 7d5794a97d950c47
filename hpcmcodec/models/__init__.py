"""The HPCM models: transforms, coding schedule, context model and what ties them together."""

from .hpcm import HPCM, Compressed

__all__ = ["HPCM", "Compressed"]
