"""Broken inputs: bytes and JSON objects, a little or a lot away from sound ones. All of it is drawn
from the `random.Random` that the caller gives, so that a failure can be made again."""

import copy
import json
import math
from random import Random
from typing import Any

import orjson

# What parsers have stumbled over, in texts of any kind
TOKENS = [
    *(b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b" ", b"\t", b'"', b"'", b"\\", b"/"),
    *(b"nan", b"NaN", b"-inf", b"Infinity", b"1e308", b"1e999", b"-1", b"0", b"-0.0", b"1e-320"),
    *(b"9" * 400, b"0x10", b"1_0", b"\xd9\xa3", b"null", b"true", b"[]", b"{}", b"[" * 2000),
    *(
        b"../../../etc/passwd",
        b"/dev/zero",
        b"<!ENTITY a 'b'>",
        b"&a;",
        b"]]>",
        b"<image",
        b"</box>",
    ),
    *(b"<script>alert(1)</script>", b"\x1b[31m", b"%s%n", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80"),
]

# What a value of a record may be that it should not
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**53,
        2**63,
        10**18,
        10**30,
        math.inf,
        math.nan,
        -0.0,
        0.5,
        1e308,
        -1e308,
        1e-320,
    ),
    *("", "x", "0", "nan", "../../x", "/", "\0", "a" * 5000, "\ud800", "train", "ibug68:0"),
    *("ibug68", "imm58:999", "nose1", "ok", "missing", "<b>", "image", "\x1b]0;x\x07"),
    *([], [[]], {}, [None], [1, 2], [1, 2, 3, 4], [0, 0, 0, 0], [[1, 2]] * 68, [[0.5, None]] * 68),
    *(
        {"a": {"b": []}},
        [{"seed": 0, "rotate": 1e308}],
        [{"flip": 2}],
        [{"seed": -1}],
        [[[[[[]]]]]],
    ),
]


def damaged(data: bytes, random: Random) -> bytes:
    """The bytes after one to eight edits."""
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        at = random.randrange(len(data) + 1)
        span = min(random.choice((1, 1, 2, 4, 16, 256)), len(data) - at)
        edit = random.randrange(7)
        if edit == 0 and at < len(data):  # a bit
            data = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        elif edit == 1:
            data = data[:at] + data[at + span :]
        elif edit == 2:
            data = data[:at] + random.choice(TOKENS) + data[at + span :]
        elif edit == 3:
            data = data[:at] + data[at : at + span] * random.choice((2, 3, 50)) + data[at + span :]
        elif edit == 4:  # a part of it elsewhere
            to = random.randrange(len(data) + 1)
            data = data[:to] + data[at : at + span] + data[to:]
        elif edit == 5:
            data = data[:at] + random.randbytes(span) + data[at + span :]
        elif random.random() < 0.3:
            data = data[:at]  # it breaks off
    return data


def strange(record: dict[str, Any], random: Random) -> bytes:
    """One line: the record after a few edits of its values, now and then of its bytes."""
    record = copy.deepcopy(record)
    for _ in range(random.choice((1, 1, 2, 4))):
        _edit(record, random)
    try:
        line = orjson.dumps(record)
    except (TypeError, ValueError):  # a lone surrogate, a number over 64 bits
        line = json.dumps(record).encode()
    if random.random() < 0.2:
        line = damaged(line, random)
    return line.replace(b"\n", b" ")


def _edit(value: dict[str, Any] | list[Any], random: Random) -> None:
    """Change something in a tree of values, at any depth."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = random.choice(keys)
    inner = value[key]
    if isinstance(inner, dict | list) and inner and random.random() < 0.5:
        _edit(inner, random)
        return
    edit = random.randrange(5)
    if edit == 0:
        del value[key]
    elif edit == 1 and isinstance(inner, list):
        inner.append(random.choice(VALUES))
    elif edit == 2 and isinstance(inner, int | float) and not isinstance(inner, bool):
        value[key] = inner * random.choice((-1, 0, 1e3, 1e7, 1e300))
    else:
        value[key] = copy.deepcopy(random.choice(VALUES))
