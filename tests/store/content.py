"""What somebody may write under our keys, as Hypothesis strategies of commands for a server."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from msgspec import to_builtins

from tests.entries import entry
from tests.records import failed, moment, record
from unitagent.core.model import Order, OrderKind
from unitagent.store.keys import KEPT_OUTPUTS, REGISTRY, KeyNames

Words = tuple[str | bytes, ...]
Writes = st.SearchStrategy[list[Words]]

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 0, 1, 1024, 2**53, 10**30, 0.5, 1e308])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
_ODD = [b"", b"nan", b"\xff\xfe", b"[]", b"null", b"{}", b"7 {}", b"a b c", b"[" * 5000, b"x" * 20_000]

# Well formed, and with a meaning that nothing of ours has.
MEANT: st.SearchStrategy[Any] = (
    st.sampled_from(
        [
            *(
                "$(id)",
                "10.0.0.1;id",
                "fe80::1%eth0",
                "0.0.0.0",
                "::",
                "224.0.0.1",
                "255.255.255.255",
                "::ffff:0.0.0.0",
                "host",
            ),
            *(
                "10.0.0.1\n",
                "\u0661.0.0.1",
                "1.2.3",
                "::ffff:1.2.3.4",
                "127.0.0.1",
                "",
                "a,b",
                "a b",
                "\x1b[2J",
            ),
            *(0, -1, 1, 65535, 65536, 2**31, 2**53 - 1, 2**53, 1e308, -0.5, 0.5, 1e12),
        ]
    )
    | st.ip_addresses().map(str)
    | st.integers(-5, 70_000)
)

GARBAGE = st.sampled_from(_ODD) | _JSON.map(lambda value: b"\xff" + json.dumps(value).encode())


def _near(value: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A value of ours with some fields changed or added."""
    fields = st.sampled_from(sorted(value)) | st.text(max_size=5)
    changes = st.dictionaries(fields, _JSON | MEANT, min_size=1, max_size=3)
    return changes.map(lambda changed: json.dumps(value | changed).encode())


LIES = (
    st.binary(max_size=40)
    | _JSON.map(lambda value: json.dumps(value).encode())
    | st.tuples(st.integers(0, 9), _near(to_builtins(failed(1)))).map(lambda pair: b"%d %s" % pair)
    | _near(to_builtins(record(1, "b", size=2)))
    | _near(to_builtins(moment()))
    | _near(to_builtins(Order(kind=OrderKind.RESTART, generation=1)))
    | st.sampled_from([b"9007199254740991", b"b 1 1", b"b 9007199254740991 -1", b"1e3", b"0x10", b"00"])
)


ENTRIES = st.tuples(st.sampled_from([b"1", b"9007199254740991", b"x"]), _near(to_builtins(entry()))).map(
    lambda pair: b"%s 5000 1 a %s" % pair
)


def writes(unit: str, fields: list[str], values: st.SearchStrategy[bytes]) -> Writes:
    """Commands that put ``values`` into these fields of the board, and anything into all other keys."""
    keys = KeyNames(unit)
    outputs = [keys.name_output(number) for number in range(KEPT_OUTPUTS)]
    field = st.sampled_from(fields) | st.text(min_size=3, max_size=5)
    members = st.sampled_from(["0", "1", "x", "-1", "1025", "", "00"])
    scores = st.sampled_from(["1", "1e15", "inf", "-inf", "9e15"])
    places = st.sampled_from([keys.changes, keys.history, REGISTRY, *outputs])
    types = st.sampled_from([("SET",), ("LPUSH",), ("SADD",), ("XADD", "*", "f"), ("HSET", "f")])
    return st.one_of(
        st.builds(lambda name, value: [("HSET", keys.membership_table, name, value)], field, values),
        st.builds(lambda name, value: [("HSET", REGISTRY, name, value)], st.text(max_size=5), values),
        st.builds(lambda value: [("HSET", REGISTRY, "u", value)], ENTRIES),
        st.builds(lambda score, member: [("ZADD", keys.changes, score, member)], scores, members),
        st.builds(lambda value: [("XADD", keys.history, "*", "at", "1", "moment", value)], values),
        st.builds(lambda place: [("DEL", place)], places),
        st.builds(
            lambda place, kind, value: [("DEL", place), (kind[0], place, *kind[1:], value)],
            *(places, types, values),
        ),
    )
