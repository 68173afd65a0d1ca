from __future__ import annotations

from unitagent.core import budget


def test_restarts_leave_the_window() -> None:
    assert budget.within((0.0, 50.0, 99.0), now=100.0, window=60.0) == (50.0, 99.0)


def test_the_last_allowed_restart_is_allowed() -> None:
    assert not budget.spent((1.0, 2.0), allowed=2)
    assert budget.spent((1.0, 2.0, 3.0), allowed=2)
    assert budget.spent((1.0,), allowed=0)


def test_the_last_pause_repeats() -> None:
    backoff = (0.0, 1.0, 5.0)
    assert [budget.pause((0.0,) * count, backoff) for count in range(6)] == [0.0, 0.0, 1.0, 5.0, 5.0, 5.0]


def test_no_backoff_is_no_pause() -> None:
    assert budget.pause((1.0, 2.0), ()) == 0.0
