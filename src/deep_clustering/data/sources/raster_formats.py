"""What Pillow reads here, and what it raises where a file is damaged."""

import struct
import zlib
from functools import cache

from PIL import Image

# Decoders of raster images; among those left out are the ones that start another program.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")

# What a damaged file makes Pillow's decoders raise.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@cache
def raster_formats() -> list[str]:
    """Those of the formats that this build of Pillow has."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]
