"""A PIL picture to plain arrays and back: modes, alpha, orientation, metadata, and the files to save to."""

from .filling import fill_hidden
from .metadata import cropped_metadata
from .opening import is_picture_name, open_picture
from .reading import Picture, Pixels, read
from .saving import save, to_image

__all__ = [
    "Picture",
    "Pixels",
    "cropped_metadata",
    "fill_hidden",
    "is_picture_name",
    "open_picture",
    "read",
    "save",
    "to_image",
]
