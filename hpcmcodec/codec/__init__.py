"""Picture to bytes and back: tiles, targets, and the file around the model's streams."""

from ..pictures import Picture
from .decoding import Decoded, decode, decode_picture
from .encoding import Analysed, Encoded, analyse_picture, encode, encode_picture, to_rgb
from .latents import CodecWarning
from .targets import Target

__all__ = [
    "Analysed",
    "CodecWarning",
    "Decoded",
    "Encoded",
    "Picture",
    "Target",
    "analyse_picture",
    "decode",
    "decode_picture",
    "encode",
    "encode_picture",
    "to_rgb",
]
