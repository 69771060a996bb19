"""Image files: their size, and their pixels.

Pillow reads them, and only in the formats named here: none of these runs anything. The frame is
the picture as it is to be seen, after EXIF orientation. Whatever the file holds becomes 8-bit RGB
or grey; what is transparent, and what lies outside the picture, is mid-grey (`FILL`). AVIF needs
Pillow 11.3 or later, HEIC the wheel `pi-heif` (the extra `heic`).
"""

import io
import logging
import os
import warnings

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    features,
)

from kptools.errors import KptoolsError, RecordError
from kptools.geometry import IDENTITY, Matrix, compose, scaling, translation
from kptools.limits import MAX_IMAGE_PIXELS
from kptools.specs import FILL
from kptools.storage import remote
from kptools.storage.files import require_regular
from kptools.units import Size

# Importing a plugin is what makes Pillow know its format; JPEG's opens MPO as well
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)
if features.check("avif"):
    from PIL import AvifImagePlugin

    FORMATS += (AvifImagePlugin.AvifImageFile.format,)
_HEAD = 64  # bytes that say what a file is
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")


# Below it no warning, above it an error: the bound is ours
Image.MAX_IMAGE_PIXELS = MAX_IMAGE_PIXELS


# what is wrong with a file a record says, in one line: Pillow is not to say it too
logging.getLogger("PIL").addHandler(logging.NullHandler())


for category in (UserWarning, Image.DecompressionBombWarning):
    warnings.filterwarnings("ignore", category=category, module=r"PIL\.")


# By EXIF orientation: how the stored picture is turned to be seen
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COMMENT = "Comment"  # PNG's own word for one
_SIDEWAYS = {5, 6, 7, 8}  # width and height change places
_MIRROR_X = {2, 3, 6, 7}  # the shown x runs against an axis of the stored picture
_MIRROR_Y = {3, 4, 7, 8}


def shown_size(path: str) -> Size:
    """(width, height) as shown, from the header alone. Raises RecordError."""
    with _open(path) as stored:
        width, height = stored.size
        return (height, width) if _orientation(stored) in _SIDEWAYS else (width, height)


def read(path: str, *, grey: bool = False, shrink: int = 1) -> tuple[Image.Image, Matrix]:
    """The picture as shown, in mode RGB or L, and the matrix from the file frame to its pixels.

    `shrink` (1, 2, 4, 8) is by how much the picture may come smaller: JPEG is then decoded
    straight to that scale. The scale is exactly 1/shrink; where the size is no multiple of it
    the last row or column is a part of a pixel, which on a turned picture comes first.
    Raises RecordError (`missing`, `unreadable`, `too_large`).
    """
    stored, name = _open(path), remote.shown(path)
    with stored:
        try:
            scale = 1
            width, height = stored.size
            if shrink > 1 and stored.format in ("JPEG", "MPO"):
                # Pillow takes the smallest of 1, 1/2, 1/4, 1/8 that still covers this size
                drawn = stored.draft("", (max(1, width // shrink), max(1, height // shrink)))
                scale = round(width / drawn[1][2]) if drawn else 1
            orientation = _orientation(stored)
            picture = _plain(stored, grey)
            if orientation in _TURN:
                picture = picture.transpose(_TURN[orientation])
        except Image.DecompressionBombError:
            raise RecordError("too_large", _too_large(name)) from None
        except MemoryError:
            raise RecordError("too_large", f"{name} does not fit in memory") from None
        except Exception as error:
            raise RecordError("unreadable", f"{name} cannot be decoded: {_reason(error)}") from None
    if orientation in _SIDEWAYS:
        width, height = height, width
    # the stored picture's partial last pixel comes first where the axis is mirrored
    dx = picture.width - width / scale if orientation in _MIRROR_X else 0.0
    dy = picture.height - height / scale if orientation in _MIRROR_Y else 0.0
    return picture, compose(translation(dx, dy), scaling(1 / scale, 1 / scale))


def stored_to_shown(path: str) -> tuple[Matrix, int]:
    """The matrix (2, 3), continuous, from the picture as it is stored, to which the annotations of
    programs that ignore EXIF refer, to the picture as shown, and the EXIF orientation (1: the same
    picture). Of a mirrored picture the determinant is negative. Raises RecordError."""
    with _open(path) as stored:
        tag = _tag(stored)
        width, height = stored.size
        if stored.format == "TIFF" and tag in _SIDEWAYS:  # Pillow has turned the size already
            width, height = height, width
    if tag not in _TURN:
        return IDENTITY, 1
    m = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) if tag in _SIDEWAYS else IDENTITY
    if tag in _SIDEWAYS:
        width, height = height, width
    if tag in _MIRROR_X:
        m = compose(translation(width, 0), scaling(-1, 1), m)
    if tag in _MIRROR_Y:
        m = compose(translation(0, height), scaling(1, -1), m)
    return m, tag


def _open(path: str) -> Image.Image:
    """Open lazily: the header is read, the pixels are not; of a remote image all bytes are."""
    name = remote.shown(path)
    head, formats = b"", FORMATS
    try:
        source: str | io.BytesIO = path
        if remote.is_remote(path):
            source = io.BytesIO(remote.read(path))
            head = source.getvalue()[:_HEAD]
        else:
            require_regular(path)
            with open(path, "rb") as handle:
                head = handle.read(_HEAD)
        formats = _formats(head, name)
        stored = Image.open(source, formats=formats)
    except (RecordError, KptoolsError):
        raise
    except FileNotFoundError:
        raise RecordError("missing", f"{name} does not exist; check the path") from None
    except Image.DecompressionBombError:
        raise RecordError("too_large", _too_large(name)) from None
    except UnidentifiedImageError:
        what = "is empty" if not head else f"is no image in {', '.join(formats)}"
        raise RecordError("unreadable", f"{name} {what}; convert or remove it") from None
    except (OSError, ValueError) as error:
        raise RecordError("unreadable", f"{name} cannot be opened: {_reason(error)}") from None
    except Exception as error:  # Pillow's plugins raise much on broken headers
        raise RecordError("unreadable", f"{name} is broken: {_reason(error)}") from None
    if stored.width * stored.height > MAX_IMAGE_PIXELS:
        stored.close()
        raise RecordError("too_large", _too_large(name))
    return stored


def _formats(head: bytes, name: str) -> tuple[str, ...]:
    """Those that a file of this beginning may have: HEIC where it says that it is that, which the
    package `pi_heif` then reads. RecordError where that is not installed."""
    others = range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4)
    is_avif = any(head[at : at + 4] == b"avif" for at in (8, *others))
    if head[4:8] != b"ftyp" or is_avif or head[8:12] not in _HEIC_BRANDS:
        return FORMATS
    try:
        import pi_heif
    except ImportError:
        problem = f"{name} is a HEIC picture; pip install pi-heif to read it, or convert it"
        raise RecordError("unreadable", problem) from None
    pi_heif.register_heif_opener()
    return ("HEIF",)


def _too_large(path: str) -> str:
    return f"{path} is over {MAX_IMAGE_PIXELS // 10**6} megapixels; shrink it"


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def _orientation(stored: Image.Image) -> int:
    """By how the stored picture is still to be turned: Pillow (from 11 on) turns TIFFs itself."""
    return 1 if stored.format == "TIFF" else _tag(stored)


def _tag(stored: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none."""
    try:
        return int(stored.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF: shown as stored
        return 1


def _plain(stored: Image.Image, grey: bool) -> Image.Image:
    """8-bit RGB or L."""
    mode = "L" if grey else "RGB"
    if stored.mode.startswith("I") or stored.mode == "F":
        return _eight_bit(stored).convert(mode)
    if stored.has_transparency_data:
        rgba = stored.convert("RGBA")
        below = Image.new("RGBA", rgba.size, (FILL, FILL, FILL, 255))
        return Image.alpha_composite(below, rgba).convert(mode)
    return stored.convert(mode)


def _eight_bit(stored: Image.Image) -> Image.Image:
    """16-bit values are scaled to 8 bits; 32-bit ones by the range that their values show."""
    values = np.asarray(stored).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    peak = values.max(initial=0.0)
    top = 65535.0 if stored.mode.startswith("I") and peak <= 65535 else max(peak, 1.0)
    if stored.mode == "F" and peak <= 1.0:
        top = 1.0
    elif stored.mode == "F" and peak <= 255.0:
        top = 255.0
    return Image.fromarray(np.clip(values / top * 255 + 0.5, 0, 255).astype(np.uint8))


def encode(
    picture: Image.Image, suffix: str = ".png", *, level: int = 6, comment: str = ""
) -> bytes:
    """The picture as PNG of this compression, or as JPEG (quality 95, full colour) where the suffix
    says so. The file bears the comment (ASCII), which `read_comment` gives back."""
    data = io.BytesIO()
    if suffix.lower() in (".jpg", ".jpeg"):
        picture.save(data, "JPEG", quality=95, subsampling=0, comment=comment or None)
    else:
        text = PngImagePlugin.PngInfo()
        if comment:
            text.add_text(_COMMENT, comment)
        picture.save(data, "PNG", compress_level=level, pnginfo=text)
    return data.getvalue()


def read_comment(path: str | os.PathLike[str]) -> str:
    """The comment of a JPEG or PNG file; empty where it has none. Raises RecordError where the file
    is no image."""
    with _open(os.fspath(path)) as stored:
        found = stored.info.get("comment", stored.info.get(_COMMENT, ""))
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)
