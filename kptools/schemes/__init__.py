"""Schemes: what the K points of a record are. `get("ibug68")` is one, `names()` are all."""

from kptools.schemes.catalog import get, known

__all__ = ("get", "names")


def names() -> tuple[str, ...]:
    """The schemes that are known."""
    return tuple(scheme.name for scheme in known())
