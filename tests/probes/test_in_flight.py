"""Requests in flight: real connections, and gauges of a real answer."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ports import free_port
from tests.probes.agents import HOST, saying
from tests.probes.loops import in_loop
from unitagent.probes.in_flight import InFlightRequests, count_connections, sum_samples

GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting")
TEXT = b"""HTTP/1.1 200 OK\r
\r
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
# TYPE vllm:other gauge
vllm:other 100.0
"""


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@in_loop
async def test_connections_count_at_the_server_only(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, free_port()), family=family) as server:
        port = server.getsockname()[1]
        assert await InFlightRequests(port).count_requests() == 0
        with socket.create_connection((host, port)), socket.create_connection((host, port)):
            assert await InFlightRequests(port).count_requests() == 2
        assert await InFlightRequests(port).count_requests() == 0


@in_loop
async def test_the_last_request_ends_the_wait() -> None:
    with socket.create_server((HOST, free_port())) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((HOST, port))
        waiting = asyncio.create_task(InFlightRequests(port).wait_idle())
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        client.close()
        await waiting


@in_loop
async def test_who_asks_on_after_an_answer_is_waited_for() -> None:
    """His connection to a balancer is open, and that one goes by what it knew when the answer began."""
    with socket.create_server((HOST, free_port())) as server:
        port = server.getsockname()[1]
        waiting = asyncio.create_task(InFlightRequests(port).wait_idle())
        for _ in range(2):
            client = socket.create_connection((HOST, port))
            await asyncio.sleep(0.3)
            client.close()
            done, _ = await asyncio.wait([waiting], timeout=0.4)
            assert not done
        await waiting


@in_loop
async def test_gauges_are_believed_before_connections() -> None:
    async with saying(TEXT) as port:
        url = f"http://{HOST}:{port}/metrics"
        assert await InFlightRequests(port, url, GAUGES).count_requests() == 7
        assert await InFlightRequests(port, url, GAUGES[1:]).count_requests() == 4


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 500 No\r\n\r\n" + TEXT,
        b"HTTP/1.1 200 OK\r\n\r\n{not metrics",
        b"HTTP/1.1 200 OK\r\n\r\nother 1\n",
    ],
)
@in_loop
async def test_connections_count_where_gauges_cannot_be_read(answer: bytes) -> None:
    with socket.create_server((HOST, free_port())) as server, socket.create_connection(server.getsockname()):
        async with saying(answer) as port:
            assert (
                await InFlightRequests(
                    server.getsockname()[1], f"http://{HOST}:{port}/metrics", GAUGES
                ).count_requests()
                == 1
            )


@pytest.mark.parametrize(
    ("number", "expected"),
    [("0.0", 0), ("0.1", 1), ("NaN", None), ("+Inf", None), ('1e308\ng{of="another"} 1e308', None)],
)
def test_in_doubt_a_request_is_in_flight(number: str, expected: int | None) -> None:
    assert sum_samples(f"g {number}\n", frozenset({"g"})) == expected


def test_a_port_nobody_uses() -> None:
    assert count_connections(free_port()) == 0


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(["g", "{", "}", 'a="', '"', " ", "1", "\n", "# TYPE g gauge\n", "\\", ",", "NaN"])
        | st.text(max_size=4)
    )
)
def test_any_text_is_read_without_an_error(parts: list[str]) -> None:
    found = sum_samples("".join(parts), frozenset({"g"}))
    assert found is None or isinstance(found, int)
