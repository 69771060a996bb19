"""Groups, and which of them are held out."""

from hashlib import blake2b

from kptools.records.keys import Record, identity


def group(record: Record) -> str:
    """What must not be split between train and val; the id where no group is given."""
    name = record.get("group")
    return identity(record) if name is None else str(name)


def held_out(name: str, fraction: float, seed: int = 0) -> bool:
    """Whether the group of this name is among the share that is held out as val: a function of
    the name and the seed alone, so that neither order nor length of the stream matters."""
    digest = blake2b(f"{seed}\0{name}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64
