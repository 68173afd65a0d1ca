"""The names of a record's fields in the store: agents of other versions read them."""

from __future__ import annotations

import msgspec

from tests.records import record

NAMES = {
    *("rank", "incarnation", "size", "ip", "port", "tenure", "edition", "netns", "hostname", "revision"),
    *("fingerprint", "lease", "generation", "state", "begun", "gang", "master_port", "next_port", "pid"),
    *("exit_code", "asked", "draining", "left", "failed", "lost", "order", "pause", "trouble", "trouble_at"),
    *("restarts", "charges"),
}


def test_a_record_in_the_store_has_the_names_that_other_versions_know() -> None:
    assert set(msgspec.to_builtins(record(0, "a"))) == NAMES
