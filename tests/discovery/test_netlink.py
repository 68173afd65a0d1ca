"""How an answer of the kernel is taken apart, where no kernel can be made to give it."""

from __future__ import annotations

import errno
import struct

import pytest

from unitagent.discovery.netlink import _list_message_starts

LINK, ADDRESS, ERROR, DONE = 16, 20, 2, 3
MULTI, INTERRUPTED = 0x2, 0x10


def message(kind: int, body: bytes = b"", flags: int = MULTI) -> bytes:
    whole = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    return whole + bytes(-len(whole) % 4)


def test_each_message_begins_where_the_one_before_ends_and_is_filled_up() -> None:
    data = message(LINK, b"12345") + message(ADDRESS, b"1234") + message(DONE, bytes(4))
    assert list(_list_message_starts(data)) == [0, 24, None]


def test_an_answer_may_go_on_in_another_piece() -> None:
    assert list(_list_message_starts(message(LINK) + message(LINK))) == [0, 16]


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_an_error_is_told(kind: int) -> None:
    with pytest.raises(OSError, match="not permitted") as refused:
        list(_list_message_starts(message(kind, struct.pack("=i", -errno.EPERM))))
    assert refused.value.errno == errno.EPERM


def test_an_end_without_a_code_is_an_end() -> None:
    assert list(_list_message_starts(message(DONE))) == [None]


@pytest.mark.parametrize("kind", [LINK, DONE])
def test_an_answer_that_the_kernel_has_changed_meanwhile_is_none(kind: int) -> None:
    with pytest.raises(OSError, match="changed its answer"):
        list(_list_message_starts(message(LINK) + message(kind, bytes(4), MULTI | INTERRUPTED)))


def test_a_message_of_no_length_is_no_endless_loop() -> None:
    with pytest.raises(OSError, match="changed its answer"):
        list(_list_message_starts(bytes(16)))
