"""Pictures that are there twice: near-duplicates by a perceptual hash, of whole pictures and faces.

A hash has 256 bits (`imagehash.phash`: the low frequencies of a cosine transform, Zauner, 2010).
Copies of a picture that were scaled and compressed anew differ in up to 20 of them, other pictures
in 60 and more. Mirrored copies are found by the hash of the mirror image.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kptools import geometry as g
from kptools.errors import KptoolsError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.storage import images
from kptools.units import Size

MOST_DIFFERENT = 32  # bits, of copies of one picture
_MARGIN = 0.25  # of the crop about a face
_LEAST = 96  # pixels of a crop's side, to which a JPEG is decoded at least
_NEAR = 32  # how many others of an equal word a hash is compared with

Hashes: TypeAlias = NDArray[np.uint16]  # (N, 16)
_BITS_OF_BYTE = np.array([n.bit_count() for n in range(256)], np.int64)


class Look(NamedTuple):
    """What was seen of a picture: its size, and the hashes (4, 16) of the whole, of the face, and
    of their mirror images."""

    size: Size
    hashes: Hashes


def require() -> None:
    """KptoolsError where the package is not installed."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise KptoolsError(
            "near-duplicates need a package: pip install 'kptools[check]', or --no-pictures"
        ) from None


def look(record: Record) -> Look:
    """Look at the picture of a record. Raises RecordError."""
    path, box = keys.image(record), keys.box(record)
    side = min(box[2] - box[0], box[3] - box[1]) * (1 + 2 * _MARGIN)
    shrink = max(n for n in (1, 2, 4, 8) if n == 1 or side / n >= _LEAST)
    size = images.shown_size(path)
    picture, to_read = images.read(path, grey=True, shrink=shrink)
    corners = g.transform(to_read, np.reshape(g.enlarged(box, _MARGIN), (2, 2))) + 0.5
    edges = np.clip(corners, 0, (picture.width, picture.height)).round().astype(int)
    (x0, y0), (x1, y1) = edges.tolist()
    face = picture.crop((x0, y0, x1, y1)) if x1 > x0 and y1 > y0 else picture
    mirrored = ImageOps.mirror(picture), ImageOps.mirror(face)
    return Look(size, np.stack([_hash(p) for p in (picture, face, *mirrored)]))


def _hash(picture: Image.Image) -> Hashes:
    import imagehash

    bits = imagehash.phash(picture, hash_size=16).hash
    return np.packbits(bits).view(np.uint16)


def near_pairs(hashes: Hashes, mirrored: Hashes) -> Iterator[tuple[int, int]]:
    """The pairs of pictures whose hashes (N, 16), or a hash and a mirrored one, differ in at most
    `MOST_DIFFERENT` bits, some of them twice. Pairs are found that have one of 16 words in common,
    as 99 of 100 copies do; of many equal words those that are near in order."""
    count = len(hashes)
    both = np.concatenate([hashes, mirrored])
    for word in range(both.shape[1]):
        order = np.argsort(both[:, word], kind="stable")
        for step in range(1, _NEAR + 1):
            first, second = order[:-step], order[step:]
            same = both[first, word] == both[second, word]
            if not same.any():
                break
            first, second = first[same], second[same]
            near = _different_bits(both[first], both[second]) <= MOST_DIFFERENT
            for a, b in zip(first[near].tolist(), second[near].tolist(), strict=True):
                if min(a, b) < count and a % count != b % count:
                    yield min(a % count, b % count), max(a % count, b % count)


def _different_bits(a: Hashes, b: Hashes) -> NDArray[np.int64]:
    """(N, 16) and (N, 16) to (N,)."""
    different: NDArray[np.int64] = _BITS_OF_BYTE[(a ^ b).view(np.uint8)].sum(axis=1)
    return different
