"""Text in pictures."""

from functools import lru_cache

from PIL import ImageFont

from kptools.units import Pixels

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=32)
def font(size: int) -> Font:
    """Pillow's own font, of this many pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, face: Font) -> Pixels:
    return float(face.getlength(text))


def elide(text: str, face: Font, width: Pixels) -> str:
    """The text, its middle left out where it is wider than `width`."""
    text = printable(text)
    if text_width(text, face) <= width:
        return text
    low, high = 0, min(len(text), 1000)
    while low < high:  # how many characters may stay
        kept = (low + high + 1) // 2
        if text_width(_without_middle(text, kept), face) <= width:
            low = kept
        else:
            high = kept - 1
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail] + "..." + (text[-tail:] if tail else "")


def printable(text: str) -> str:
    """One line, without what no font can draw."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def wrap(text: str, face: Font, width: Pixels) -> list[str]:
    """The text in lines of at most `width`, broken at spaces."""
    lines: list[str] = []
    for word in printable(text).split():
        if lines and text_width(f"{lines[-1]} {word}", face) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(elide(word, face, width))
    return lines
