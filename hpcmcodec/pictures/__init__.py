"""A PIL picture to plain arrays and back: modes, alpha, orientation, metadata, and the files to save to."""

from .reading import Picture, Pixels, read
from .saving import save, to_image

__all__ = ["Picture", "Pixels", "read", "save", "to_image"]
