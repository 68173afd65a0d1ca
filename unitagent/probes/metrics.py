"""Prometheus metrics: what ``/status`` says now, what the workload's processes use, and counters of events
since this agent's start.

The invariant: the number of series is bounded by the size of the Unit and by fixed words; no label ever
contains text of the workload, and only ``unitagent_info`` names of the Unit. What is counted of the whole
Unit comes from rank 0 alone, so that a sum over all ranks is right. Names follow
https://prometheus.io/docs/practices/naming/. Counting needs no library: prometheus_client is imported
with the first scrape, not at each start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from unitagent import __version__
from unitagent.core.model import InstanceState, Phase
from unitagent.core.state import State
from unitagent.core.status import measure_recovery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from unitagent.core.model import Reason


STAGES = ("detect", "stop", "barrier", "start", "ready", "total")
BUCKETS = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    *(1200.0, 1800.0, 3600.0),
)  # seconds
EXCHANGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds


class Histogram:
    """Counts durations in seconds, by upper limits."""

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self._counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def observe_duration(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self.limits, seconds)] += 1
        self.total += seconds

    def list_buckets(self) -> list[tuple[str, float]]:
        """Return how many durations are below each limit."""
        names = [*map(str, self.limits), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


@dataclass(frozen=True, slots=True)
class Gauges:
    """What only the agent knows of this moment.

    Attributes:
        barrier_wait: seconds for which this instance has waited at its barrier; 0 if it does not.
        requests_in_flight: while it drains; None if it does not, or if that is not known.
        processes: what each process of the workload uses, as ``/processes`` shows it; None if not known.

    """

    barrier_wait: float = 0.0
    requests_in_flight: int | None = None
    processes: Sequence[Mapping[str, Any]] | None = None


class Metrics:
    """Counts what happens, and renders it together with a status."""

    def __init__(self, rank: int, *, unit: str = "", service: str = "", revision: str = "") -> None:
        self._rank = rank
        self._info = (unit, service, str(rank), revision)
        self._restarts: Counter[tuple[str, str]] = Counter()
        self._exits: Counter[tuple[str]] = Counter()
        self._starts: Counter[tuple[str]] = Counter()
        self._keeper_starts = 0
        self._keeper_exits: Counter[tuple[str]] = Counter()
        self._recoveries = Histogram(BUCKETS)
        self._stages: dict[tuple[str], float] = {}
        self._exchanges = Histogram(EXCHANGE_BUCKETS)
        self._reaped = 0
        self._failed_checks = 0
        self._store_errors = 0
        self._store_contact: float | None = None
        self._cpu = CpuCounter()

    def observe_restart(self, reason: Reason, origin_rank: int | None) -> None:
        """Count a restart of the Unit that ``origin_rank``'s failure caused; None if none failed."""
        self._restarts[reason.value, "" if origin_rank is None else str(origin_rank)] += 1

    def observe_start(self, *, warm: bool) -> None:
        """Count a start of the workload."""
        self._starts[("warm" if warm else "cold",)] += 1

    def observe_exit(self, code: int) -> None:
        """Count an end of the workload; ``code`` as a shell reports it (128 + signal)."""
        self._exits[(str(code),)] += 1

    def observe_keeper_start(self) -> None:
        """Count a start of the keeper."""
        self._keeper_starts += 1

    def observe_keeper_exit(self, code: int) -> None:
        """Count an end of the keeper; ``code`` as a shell reports it."""
        self._keeper_exits[(str(code),)] += 1

    def observe_recovery(self, total: float, stages: Mapping[str, float | None] | None = None) -> None:
        """Count a recovery that took ``total`` seconds, and what each of its stages took."""
        self._recoveries.observe_duration(total)
        for stage, seconds in (stages or {}).items():
            if seconds is not None and stage != "total":
                self._stages[(stage,)] = self._stages.get((stage,), 0.0) + seconds

    def observe_exchange(self, seconds: float) -> None:
        """Count an exchange with the store that was answered after so many seconds."""
        self._exchanges.observe_duration(seconds)

    def observe_failed_check(self) -> None:
        """Count a failed health check of the workload."""
        self._failed_checks += 1

    def observe_reaped(self, count: int = 1) -> None:
        """Count processes reaped that were not the workload's main process."""
        self._reaped += count

    def observe_store_error(self) -> None:
        """Count an exchange that got no answer."""
        self._store_errors += 1

    def observe_store_contact(self, now: float) -> None:
        """Remember when the store last answered, in seconds of the monotonic clock."""
        self._store_contact = now

    def render_text(self, status: Mapping[str, Any], now: float, gauges: Gauges | None = None) -> bytes:
        """Return everything as Prometheus text (format 0.0.4); ``now`` is of the same clock as contacts."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415

        gauges = gauges or Gauges()
        registry = CollectorRegistry(auto_describe=False)
        found = [*self._collect_state(status), *self._collect_moment(status, gauges)]
        found += [*self._collect_counters(), *self._collect_store(status, now)]
        found += self._collect_usage(gauges.processes) if gauges.processes is not None else ()
        registry.register(_Snapshot(found if self._rank else [*found, *self._collect_unit(status)]))
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def _collect_state(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        instances = status["instances"]
        mine = next((each["state"] for each in instances if each["rank"] == self._rank), None)
        yield _make_gauge("build_info", "Version of this agent.", [((__version__,), 1)], "version")
        names = ("unit", "service", "rank", "revision")
        yield _make_gauge("info", "Names of this instance, to join with others.", [(self._info, 1)], *names)
        yield _make_number("unit_size", "Instances in the Unit.", status["size"])
        yield _make_number("rank", "Rank of this instance.", self._rank)
        waits = bool(status.get("standby"))
        yield _make_number("standby", "Whether this instance waits for a rank.", waits)
        yield _make_number("generation", "Current generation of the Unit.", status["generation"])
        yield _make_one_hot("state", "State of this instance.", InstanceState, mine)
        yield _make_one_hot("phase", "Phase of the Unit.", Phase, status["phase"])
        yield _make_number("ready", "Whether the whole Unit serves.", status["ready"])
        yield _make_number("traffic", "Whether this instance takes user traffic.", status["traffic"])
        yield _make_number("draining", "Whether the Unit drains.", status["draining"])
        ages = [((str(each["rank"]),), each["lease_seconds"]) for each in instances]
        yield _make_gauge("lease_age_seconds", "Time since the last sign of life of a rank.", ages, "rank")
        failed = (status["failure"] or {}).get("at")
        yield _make_number("last_failure_timestamp_seconds", "When the last failure happened.", failed)
        keeper = status.get("keeper") or {}
        ready = keeper["state"] == "ready" if keeper else None
        yield _make_number("keeper_ready", "Whether the keeper on this instance is ready.", ready)
        files = status.get("warm_files") or {}
        sizes = [((kind,), files[f"{kind}_bytes"]) for kind in ("total", "read", "resident") if files]
        yield _make_gauge("warm_files_bytes", "Files of UNIT_WARM_FILES.", sizes, "kind")
        spans = [((stage,), status["recovery"].get(stage)) for stage in STAGES]
        yield _make_gauge(
            "recovery_seconds", "Time that each stage of the last restart took.", spans, "stage"
        )

    def _collect_moment(self, status: Mapping[str, Any], gauges: Gauges) -> Iterator[Metric]:
        start = status.get("start") or {}
        parts = (("fork", start.get("fork_seconds")), ("imports_saved", start.get("saved_seconds")))
        text = "What the last warm start took, and CPU time of the imports that it saved."
        yield _make_gauge("warm_start_seconds", text, [((part,), took) for part, took in parts], "part")
        phases = (status.get("engine") or {}).get("phases", {})
        text = "Time that each phase of the engine's last start took on this instance."
        named = [((phase,), took) for phase, took in phases.items()]
        yield _make_gauge("engine_phase_seconds", text, named, "phase")
        following = start["next"]["kind"] == "warm" if start.get("message") else None
        yield _make_number("next_start_warm", "Whether the next start is warm (UNIT_WARM).", following)
        ordered = (status.get("last_order") or {}).get("at")
        yield _make_number("last_order_timestamp_seconds", "When a restart was last ordered.", ordered)
        ready: Mapping[str, Any] = next(
            (one for one in status.get("conditions", ()) if one["type"] == "Ready"), {}
        )
        since = ready.get("since") if status["ready"] else None
        yield _make_number("ready_since_timestamp_seconds", "Since when the Unit has served.", since)
        budget = status.get("budget") or {}
        allowed = budget.get("allowed")
        left = None if allowed is None else max(0, allowed - budget["used"])
        yield _make_number("restart_budget_left", "Restarts that are left in the window.", left)
        paused = (status.get("pause") or {}).get("until")
        text = "When an operator's pause of restarts ends; 0 without one."
        yield _make_number("pause_until_timestamp_seconds", text, paused or 0)
        text = "How long this instance has waited at its barrier; 0 if it does not."
        yield _make_number("barrier_wait_seconds", text, gauges.barrier_wait)
        text = "Requests in flight while this instance drains."
        yield _make_number("requests_in_flight", text, gauges.requests_in_flight)

    def _collect_unit(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        """What is counted of the whole Unit."""
        spares = status.get("spares") or {}
        yield _make_number("spares_wanted", "UNIT_SPARES; from rank 0.", spares.get("wanted"))
        text = "Spares that stand by; from rank 0."
        yield _make_number("spares_standing_by", text, spares.get("standing_by"))
        text = "Spares that stand by and do not answer rank 0; from rank 0."
        yield _make_number("spares_unreachable", text, spares.get("unreachable"))
        text = "Restarts of the Unit, by first cause; from rank 0. A restart on request has no origin_rank."
        yield _make_counter("restarts", text, self._restarts, "reason", "origin_rank")
        text = "Time from a failure until the Unit served again; from rank 0."
        yield _make_histogram("recovery_duration_seconds", text, self._recoveries)
        text = "Time that each stage of all restarts took; from rank 0."
        yield _make_counter("recovery_stage_seconds", text, self._stages, "stage")

    def _collect_counters(self) -> Iterator[Metric]:
        exits = self._exits
        yield _make_counter("workload_exits", "Workload exits on this instance, by exit code.", exits, "code")
        text = "Workload starts on this instance: cold, or warm from a process that has imported the engine."
        yield _make_counter("workload_starts", text, self._starts, "kind")
        text = "Failed health checks of rank 0's workload, those while it loads included."
        yield _make_counter("health_check_failures", text, {(): self._failed_checks})
        starts = {(): self._keeper_starts}
        yield _make_counter("keeper_starts", "Starts of the keeper on this instance.", starts)
        text = "Ends of the keeper on this instance, by exit code."
        yield _make_counter("keeper_exits", text, self._keeper_exits, "code")
        yield _make_counter("reaped", "Orphans reaped.", {(): self._reaped})
        yield _make_counter("store_errors", "Exchanges without an answer.", {(): self._store_errors})
        meaning = "Time until the store answered an exchange."
        yield _make_histogram("store_exchange_duration_seconds", meaning, self._exchanges)

    def _collect_store(self, status: Mapping[str, Any], now: float) -> Iterator[Metric]:
        yield _make_number("store_connected", "Whether the store answers.", status["store"]["connected"])
        age = None if self._store_contact is None else max(0.0, now - self._store_contact)
        yield _make_number("store_last_contact_seconds", "Time since the store last answered.", age)

    def _collect_usage(self, processes: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
        self._cpu.add_usage({each["pid"]: each["cpu_seconds"] for each in processes})
        yield _make_number(
            "workload_processes", "Processes of the workload on this instance.", len(processes)
        )
        yield _make_counter(
            "workload_cpu_seconds",
            "CPU time of the workload's processes, except what one used between its last scrape and its end.",
            {(): self._cpu.total},
        )
        for name, key, help_text in _USAGE:
            known = [each[key] for each in processes if each[key] is not None]
            yield _make_number(name, help_text, sum(known) if known or not processes else None)


_USAGE = (  # metric, field of a process, help
    (
        "workload_memory_bytes",
        "memory_bytes",
        "Resident memory of the workload's processes; pages that they share count for each.",
    ),
    ("workload_threads", "threads", "Threads of the workload's processes."),
    (
        "workload_open_files",
        "open_files",
        "File descriptors of the workload's processes, as far as the kernel shows them to the agent.",
    ),
)


class CpuCounter:
    """Adds up the CPU time of processes that come and go. The sum never falls, or Prometheus would take that
    for a restart of the counter and count everything anew.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._last: Mapping[int, float] = {}

    def add_usage(self, seconds: Mapping[int, float]) -> None:
        """Add what each process (by pid) has used since the last time, or since its start."""
        for pid, used in seconds.items():
            before = self._last.get(pid, 0.0)
            self.total += used - before if used >= before else used  # less: another process has this pid
        self._last = seconds


class _Snapshot:
    """A collector of what has been computed already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _make_gauge(
    name: str, help_text: str, samples: Iterable[tuple[tuple[str, ...], float | None]], *labels: str
) -> Metric:
    """Build a gauge; what is not known has no sample."""
    from prometheus_client.metrics_core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily(f"unitagent_{name}", help_text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, float(value))
    return family


def _make_number(name: str, help_text: str, value: float | None) -> Metric:
    return _make_gauge(name, help_text, [((), value)])


def _make_one_hot(name: str, help_text: str, words: Iterable[str], current: str | None) -> Metric:
    return _make_gauge(name, help_text, [((str(word),), word == current) for word in words], name)


def _make_histogram(name: str, help_text: str, histogram: Histogram) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily  # noqa: PLC0415

    buckets = histogram.list_buckets()
    return HistogramMetricFamily(f"unitagent_{name}", help_text, buckets=buckets, sum_value=histogram.total)


def _make_counter(name: str, help_text: str, counts: Mapping[Any, float], *labels: str) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily  # noqa: PLC0415

    family = CounterMetricFamily(f"unitagent_{name}", help_text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def record_metrics(metrics: Metrics, before: State, now: State) -> None:
    """Count a restart, and record the duration of a recovery that has just finished."""
    failure, marks = now.recovery.failure, now.recovery.timestamps
    if now.recovery.counted_generation != before.recovery.counted_generation and failure is not None:
        metrics.observe_restart(failure.reason, None if failure.requested else failure.rank)
    if marks.ready is not None and before.recovery.timestamps.ready is None and marks.failed is not None:
        metrics.observe_recovery(marks.detect + marks.ready - marks.failed, measure_recovery(now))
