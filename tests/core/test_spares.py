"""What is said of the spares of a Unit."""

from __future__ import annotations

import pytest

from unitagent.core.spares import Standby, describe_spares, explain_missing

ONE = Standby(number=8, incarnation="one", ip="10.0.0.8", port=9470, hostname="m8", since=1000.0, age=0.4)
GONE = Standby(number=9, incarnation="gone", ip="10.0.0.9", port=9470, age=130.0)


def test_a_spare_stands_by_while_its_line_is_fresh() -> None:
    spares = describe_spares([ONE, GONE], 5.0, wanted=2, later=1.0)
    assert (spares["standing_by"], spares["unreachable"]) == (1, 0)
    assert [(one["number"], one["standing_by"], one["seen_seconds"]) for one in spares["list"]] == [
        (8, True, 1.4),
        (9, False, 131.0),
    ]
    assert (
        spares["message"]
        == "1 of 2 standing by: 8 (10.0.0.8, m8); spare 9 (10.0.0.9) has been silent for 2 min"
    )


@pytest.mark.parametrize(
    ("wanted", "answers", "told"),
    [
        (1, {}, ""),
        (1, {"one": True}, ""),
        (None, {}, ""),
        (2, {"one": True}, "1 of 2 spares stands by (UNIT_SPARES)"),
        (
            1,
            {"one": False},
            "spare 8 (10.0.0.8, m8) does not answer rank 0 at port 9470, so it could not join",
        ),
    ],
)
def test_what_is_missing_is_named(wanted: int | None, answers: dict[str, bool], told: str) -> None:
    spares = describe_spares([ONE], 5.0, wanted=wanted, answers=answers)
    assert explain_missing(spares) == told
    assert spares["unreachable"] == (answers.get("one") is False)


def test_a_unit_without_spares_misses_none() -> None:
    assert explain_missing(None) == ""
