"""A PIL picture to plain arrays and back: modes, alpha, orientation, metadata, and the files to save to."""

from .metadata import cropped_metadata
from .reading import Picture, Pixels, read
from .saving import save, to_image

__all__ = ["Picture", "Pixels", "cropped_metadata", "read", "save", "to_image"]
