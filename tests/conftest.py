"""What holds for every test: what a machine lacks is skipped with its reason, unless nothing may be skipped,
and no process of a test outlives the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer

from tests import shares
from tests.leaks import Leaks

NO_SKIP = bool(os.environ.get("UNITAGENT_NO_SKIP"))

LEAKS = pytest.StashKey[Leaks]()
LEFT = pytest.StashKey[list[str]]()

_LACKING = {
    "root": (os.geteuid() != 0, "needs root, for network and PID namespaces"),
}


# On a busy machine any example may take long, and it is no fault.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


def pytest_configure() -> None:
    """Begin as from a terminal: what runs in the background (nohup, CI) is born with signals ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; last, so that folders have added their own markers."""
    for item in items:
        for marker, (lacking, reason) in _LACKING.items():
            if lacking and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Leave the processors to the tests of other workers, if this one only computes."""
    with shares.lowered_priority(item.nodeid) if _is_worker(item.config) else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where nothing may be skipped; an expected failure is no skip, and a kernel
    cannot be installed.
    """
    report = yield
    if (
        NO_SKIP
        and report.skipped
        and not hasattr(report, "wasxfail")
        and "this kernel" not in _reason(report)
    ):
        _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same with a file that skips itself as a whole."""
    report = yield
    if NO_SKIP and report.outcome == "skipped":
        _forbid(report)
    return report


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid}: {_reason(report)}\nUNITAGENT_NO_SKIP is set: nothing may be skipped here"
    )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.hookimpl
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run in parallel what is much."""
    return shares.workers(config)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> shares.Shares:
    """Keep together what belongs together."""
    return shares.Shares(config, log)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests for another one (pytest-xdist)."""
    return hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Mark every descendant of this run, daemons too; workers have the mark of who started them."""
    if not _is_worker(session.config):
        session.config.stash[LEAKS] = Leaks(mark=f"UNITAGENT_TEST_RUN={uuid.uuid4()}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run, and no single test, when a process outlives it; last: by then the workers have ended."""
    if _is_worker(session.config):
        return
    if session.exitstatus == pytest.ExitCode.INTERRUPTED and session.config.getoption("numprocesses", None):
        session.config.stash[LEAKS].end()
    session.config.stash[LEFT] = left = session.config.stash[LEAKS].left()
    if left and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the processes; and note the counts where one run of several is to sum them up."""
    for line in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT RUNNING by the tests: {line}", red=True)
    if tally := os.environ.get("UNITAGENT_TALLY"):
        with Path(tally).open("a") as file:
            file.writelines(f"{len(all_)} {kind}\n" for kind, all_ in terminalreporter.stats.items() if kind)
