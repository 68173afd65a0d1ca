"""HAProxy's agent-check: one line is asked, one line is answered, and the connection ends.

The invariant: the words say what the code of ``/traffic`` says, so a balancer learns the same in both ways.
HAProxy knows them from its ``agent-check``; it ignores an agent that it cannot reach.
"""

from __future__ import annotations

from unitagent.core.probe_answers import NOT_HERE, OK

ASKED = b"traffic\n"  # no request of HTTP begins so, and h11 would wait for more

# `drain` stays set in HAProxy until `ready` takes it back, `down` until `up` does.
_WORDS = {OK: b"up ready\n", NOT_HERE: b"drain\n"}
_OTHERWISE = b"down\n"


def line(code: int) -> bytes:
    """Say what this code of ``/traffic`` means for new requests."""
    return _WORDS.get(code, _OTHERWISE)
