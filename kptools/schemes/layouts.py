"""Where a picture of a scheme draws its points: `layouts.json` for the built-in schemes.

Those of ibug68 are the mean shape of drawn faces (`kptools/datasets/synthetic/shape.json`). The
others were set by hand on that shape: no face is in them.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme

Layout: TypeAlias = tuple[tuple[float, float], ...]


def layout_of(scheme: Scheme) -> Layout:
    """The places (K, 2) of its points, in fractions of a picture; empty where none are known."""
    if scheme.layout or scheme.base not in _built_in():
        return scheme.layout
    places = dict(zip(catalog.get(scheme.base).names, _built_in()[scheme.base], strict=True))
    return tuple(places[name] for name in scheme.names)


@lru_cache(maxsize=1)
def _built_in() -> Mapping[str, Layout]:
    text = Path(__file__).with_name("layouts.json").read_text(encoding="utf-8")
    return {name: tuple((x, y) for x, y in places) for name, places in json.loads(text).items()}
