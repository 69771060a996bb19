"""The schemes of a run: one, or several that one network learns."""

from typing import TYPE_CHECKING

from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.failures import Failures
from kptools.schemes import catalog
from kptools.schemes.union import JOIN

if TYPE_CHECKING:
    from kptools.training.gather import Gathered


def check(face: Face, found: "Gathered") -> None:
    """RecordError where an annotated face is of another scheme than those before it, or, where
    there may be several, of one that is not known."""
    assert face.points is not None
    scheme, count = keys.scheme_name(face.record), len(face.points)
    if found.several:
        if face.scheme is None:
            advice = "--several-schemes needs its definition; give it by --scheme FILE"
            raise RecordError("bad_scheme", f"{count} points of {scheme}; {advice}")
        if face.scheme.parts:
            raise RecordError("bad_scheme", f"{scheme} is several schemes; a record has one")
    found.scheme, found.count = found.scheme or scheme, found.count or count
    if not found.several and (scheme, count) != (found.scheme, found.count):
        advice = "; --several-schemes learns both" if scheme != found.scheme else ""
        raise RecordError(
            "bad_scheme",
            f"{count} points of {scheme}; the run has {found.count} of {found.scheme}{advice}",
        )


def unite(found: "Gathered", failures: Failures) -> None:
    """Give the faces of several schemes the points of them all, one scheme after the other, by
    their names. Those of val whose scheme no face to train on has are failures."""
    names = sorted({keys.scheme_name(face.record) for _, face in found.train})
    union = catalog.get(JOIN.join(names))
    found.scheme, found.count = union.name, union.count
    known = []
    for item, face in found.val:
        name = keys.scheme_name(face.record)
        if name in names:
            known.append((item, face))
        else:
            failures.add(item, RecordError("bad_scheme", f"no face to train on is of {name}"))
    found.val = known
    if union.parts:
        found.train = [(item, face.among(union)) for item, face in found.train]
        found.val = [(item, face.among(union)) for item, face in found.val]
