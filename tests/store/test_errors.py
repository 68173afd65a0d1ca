"""What is advised where the store is not reached fits the store that is in use."""

from __future__ import annotations

import errno
import socket

import pytest
from redis.exceptions import ConnectionError as ClosedError

from unitagent.store.address import make_embedded_location, parse_store_url
from unitagent.store.errors import explain_error

EMBEDDED = make_embedded_location("10.0.0.11", 9471, ())
GIVEN = parse_store_url("redis://10.0.0.11:6379")
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
RESET = ConnectionResetError(errno.ECONNRESET, "reset")
CLOSED = ClosedError("Connection closed by server.")


@pytest.mark.parametrize("error", [REFUSED, UNKNOWN, RESET, CLOSED, TimeoutError()], ids=repr)
@pytest.mark.parametrize("to", [EMBEDDED, None], ids=["elsewhere", "here"])
def test_no_url_is_blamed_where_there_is_none(error: Exception, to: object) -> None:
    said = str(explain_error(error, "10.0.0.11:9471", to=to))  # type: ignore[arg-type]
    assert said.startswith("the embedded store at 10.0.0.11:9471 (UNIT_STORE_PORT) ")
    assert "UNIT_REDIS_URL" not in said
    assert "rediss" not in said


def test_the_embedded_store_is_looked_for_at_rank_0() -> None:
    assert "rank 0's agent runs it" in explain_error(REFUSED, "x", to=EMBEDDED).remedy
    assert "correct MASTER_ADDRESS" in explain_error(UNKNOWN, "x", to=EMBEDDED).remedy
    assert "UNIT_REDIS_URL" in explain_error(REFUSED, "x", to=GIVEN).remedy


@pytest.mark.parametrize("error", [RESET, CLOSED], ids=repr)
def test_tls_is_guessed_only_of_a_server_that_has_never_answered(error: Exception) -> None:
    assert "rediss://" in explain_error(error, "x", to=GIVEN).remedy
    assert "TLS" not in str(explain_error(error, "x", to=GIVEN, spoken=True))
    secured = parse_store_url("rediss://10.0.0.11:6379")
    assert "without TLS" in explain_error(TimeoutError(), "x", to=secured).remedy
    assert "TLS" not in str(explain_error(TimeoutError(), "x", to=secured, spoken=True))
