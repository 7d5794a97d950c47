"""A PIL picture to plain arrays and back: modes, alpha, orientation, metadata, and the files to save to."""

from .filling import fill_hidden
from .formats import FORMATS, kind_of
from .metadata import cropped_metadata
from .opening import is_picture_name, open_picture
from .reading import Picture, Pixels, read
from .saving import check_format, save, to_image

__all__ = [
    "FORMATS",
    "Picture",
    "Pixels",
    "check_format",
    "cropped_metadata",
    "fill_hidden",
    "is_picture_name",
    "kind_of",
    "open_picture",
    "read",
    "save",
    "to_image",
]
