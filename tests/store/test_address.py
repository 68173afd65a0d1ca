"""URLs: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitagent.errors import RefusalError
from unitagent.store.address import Login, StoreKind, StoreLocation, make_embedded_location, parse_store_url

GOOD = {
    "redis://h": StoreLocation(kind=StoreKind.DIRECT, hosts=(("h", 6379),)),
    "redis://h:1/2": StoreLocation(kind=StoreKind.DIRECT, hosts=(("h", 1),), db=2),
    "redis://h?db=": StoreLocation(kind=StoreKind.DIRECT, hosts=(("h", 6379),)),
    "redis://h?db=3": StoreLocation(kind=StoreKind.DIRECT, hosts=(("h", 6379),), db=3),
    "redis://[::1]": StoreLocation(kind=StoreKind.DIRECT, hosts=(("::1", 6379),)),
    "redis://u:p%40@[fd00::2]:7/": StoreLocation(
        kind=StoreKind.DIRECT, hosts=(("fd00::2", 7),), login=Login("u", "p@")
    ),
    "rediss://h": StoreLocation(kind=StoreKind.DIRECT, hosts=(("h", 6379),), tls={}),
    "rediss://h?ssl_ca_certs=/c&ssl_check_hostname=no": StoreLocation(
        kind=StoreKind.DIRECT, hosts=(("h", 6379),), tls={"ssl_ca_certs": "/c", "ssl_check_hostname": False}
    ),
    "unix:///run/r.sock?db=1": StoreLocation(kind=StoreKind.UNIX, path="/run/r.sock", db=1),
    "unix://:pw@/run/r.sock": StoreLocation(kind=StoreKind.UNIX, path="/run/r.sock", login=Login("", "pw")),
    "redis+sentinel://:pw@a,b:7/main/4?sentinel_password=sp": StoreLocation(
        kind=StoreKind.SENTINEL,
        hosts=(("a", 26379), ("b", 7)),
        service="main",
        db=4,
        login=Login("", "pw"),
        sentinel_login=Login("", "sp"),
    ),
    "redis+cluster://a,[::2]:7": StoreLocation(kind=StoreKind.CLUSTER, hosts=(("a", 6379), ("::2", 7))),
}
BAD = {
    "": "unknown scheme",
    "h:6379": "unknown scheme",
    "http://h": "unknown scheme",
    "redis://": "host is missing",
    "redis://:pw@": "host is missing",
    "redis://h:": "port of a host",
    "redis://h:0": "port of a host",
    "redis://h:65536": "port of a host",
    "redis://h:²": "port of a host",
    "redis://a,b": "one host is expected",
    "redis://h/x": "database",
    "redis://h/1/2": "database",
    "redis+cluster://h/1": "only database 0",
    "redis+sentinel://h": "name of the primary is missing",
    "unix://h/path": "absolute path",
    "unix://": "absolute path",
    "redis://h?ssl_certfile=/c": "needs a scheme with TLS",
    "rediss://h?ssl_cert_reqs=maybe": "none, optional, required",
    "redis://h?colour=blue": "option colour is unknown",
    "redis://h?Pass4word=blue": "an option is unknown",
    "redis://u:12?word=x@h": "percent-encoded",
    "redis://h?db": "option has no value",
    "redis://h/1?db=2": "given twice",
    "redis://h?db=1&db=2": "given twice",
    "redis://h?sentinel_password=word": "redis+sentinel:// only",
    "redis://fd00::1": "needs brackets",
    "redis://1.2.3": "not an IP address",
    "redis://0.0.0.0": "not the address of a single machine",
    "redis://a b": "neither a DNS name",
    "redis://h/999999": "database",
    "unix:///run/": "absolute path",
    "redis://[::1": "not a URL",
    "redis://:pass#word@h": "percent-encoded",
    "redis://:pass/word@h": "percent-encoded",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url(url: str) -> None:
    assert parse_store_url(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_told_without_its_password(url: str) -> None:
    with pytest.raises(RefusalError) as raised:
        parse_store_url(url)
    assert BAD[url] in str(raised.value)
    assert "word" not in str(raised.value).replace("password", "")


@given(st.text() | st.text().map("redis://".__add__) | st.text().map("rediss+sentinel://h/".__add__))
def test_any_text_is_an_address_or_refused(url: str) -> None:
    with contextlib.suppress(RefusalError):
        assert isinstance(parse_store_url(url), StoreLocation)


def test_the_embedded_store_has_the_address_that_a_url_would_give() -> None:
    assert make_embedded_location("10.0.0.1", 9471, ()) == parse_store_url("redis://10.0.0.1:9471")
    assert make_embedded_location("fd00::1", 9471, ("first",)) == parse_store_url(
        "redis://:first@[fd00::1]:9471"
    )


def test_all_passwords_of_the_embedded_store_are_tried_and_none_is_shown() -> None:
    found = make_embedded_location("rank0", 9471, ("first", "second", "third"))
    assert (found.login.password, found.login.others) == ("first", ("second", "third"))
    assert not any(word in repr(found) for word in ("first", "second", "third"))
