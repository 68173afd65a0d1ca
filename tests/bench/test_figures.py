"""The benchmarks' common parts, and the page that is made of the committed figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
sys.path.insert(0, str(BENCH))

import figures  # noqa: E402
import main  # noqa: E402


def document(*samples: float) -> dict[str, Any]:
    table = figures.Table("Restart", "instances", {"ours": "s", "floor": "s", "ours / floor": "x"}, "A note.")
    table.add(2, "ours", *samples)
    table.add(2, "floor", 0.1)
    table.add_ratio(2, "ours / floor", "ours", "floor")
    return table.document() | {"machine": figures.machine()}


def test_the_page_is_made_of_the_committed_figures() -> None:
    told = f"{main.PAGE.name} is not that of {main.COMMITTED.name}: run scripts/bench.sh --page"
    assert main.PAGE.read_text() == main.page(main.read(main.COMMITTED)), told


def test_a_committed_table_says_where_it_was_measured_and_how_often() -> None:
    for table in main.read(main.COMMITTED).values():
        assert {"date", "cores", "system", "python", "load"} <= table["machine"].keys()
        assert all(cell["n"] for row in table["cells"].values() for cell in row.values())


def test_a_cell_has_median_and_range_and_one_sample_has_none() -> None:
    text = figures.markdown(document(0.2, 0.3, 0.25, 4))
    assert "| instances | ours, s | floor, s | ours / floor, x |" in text
    assert "| 2 | 0.275 (0.2-4) | 0.1 | 2.75 |" in text
    assert "1-4 samples" in text


def test_the_last_figures_stand_beside_as_ratios() -> None:
    assert "| 2 | 0.3 [1.50 x] | 0.1 [1.00 x] | 3 [1.50 x] |" in figures.markdown(
        document(0.3), document(0.2)
    )


def test_what_was_not_measured_before_has_no_ratio() -> None:
    before = document(0.2)
    del before["cells"]["2"]["floor"]
    assert "| 0.3 [1.50 x] | 0.1 | 3" in figures.markdown(document(0.3), before)


def test_what_was_not_measured_now_is_empty() -> None:
    now = document(0.2)
    del now["cells"]["2"]["floor"]
    assert "| 2 | 0.2 |  | 2 |" in figures.markdown(now)


@pytest.mark.parametrize(("value", "text"), [(0.01234, "0.0123"), (12.34, "12.3"), (1234567.8, "1,234,568")])
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert figures.number(value) == text


def test_every_benchmark_is_there_and_says_what_it_measures() -> None:
    for name in main.ALL + main.BY_NAME:
        argv = [sys.executable, str(BENCH / f"{name}.py"), "--help"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "--quick" in done.stdout


def test_one_that_crashes_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = json.dumps({"good": document(1)})
    lines = ("import sys", "from pathlib import Path", f"Path(sys.argv[2]).write_text({made!r})")
    (tmp_path / "good.py").write_text("\n".join(lines))
    (tmp_path / "bad.py").write_text("1 / 0\n")
    monkeypatch.setattr(main, "HERE", tmp_path)
    monkeypatch.setattr(main, "PAINTER", main.ROOT / "nobody")
    monkeypatch.setattr(main, "ALL", ("bad", "good"))
    monkeypatch.setattr(sys, "argv", ["bench", "--out", str(tmp_path / "out")])
    assert main.main() == 1
    told = capsys.readouterr()
    assert "crashed: bad" in told.err
    assert "| 2 | 1 | 0.1 | 10 |" in told.out
    assert list(main.read(tmp_path / "out" / "figures.json")) == ["good"]
    assert "## good" in (tmp_path / "out" / "FIGURES.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["barrier", "heartbeat"])
def test_a_quick_run_fills_its_tables(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    argv = [sys.executable, str(BENCH / f"{name}.py"), "--quick", "--json", str(file)]
    subprocess.run(argv, check=True, capture_output=True, timeout=200)
    table = main.read(file)[name]
    assert table["cells"]
    assert all(row.keys() == table["columns"].keys() for row in table["cells"].values())
