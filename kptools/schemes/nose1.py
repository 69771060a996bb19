"""The tip of the nose alone."""

from kptools.schemes.scheme import Scheme

SCHEME = Scheme(name="nose1", count=1, regions={"nose": (0,)}, swap=(0,), nose=0).named(
    {0: "nose_tip"}
)
