"""Prometheus metrics: what ``/status`` says now, what the workload's processes use, and counters of events
since this agent's start.

The invariant: the number of series is bounded by the size of the Unit and by fixed words; no label ever
contains an id or text of the workload. Names follow https://prometheus.io/docs/practices/naming/. Counting
needs no library: prometheus_client is imported with the first scrape, not at each start.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from unitagent import __version__
from unitagent.core.model import InstanceState, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from unitagent.core.model import Reason

STAGES = ("detect", "stop", "barrier", "start", "ready", "total")
BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)  # seconds


class Metrics:
    """Counts what happens, and renders it together with a status."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._restarts: Counter[tuple[str, str]] = Counter()
        self._exits: Counter[tuple[str]] = Counter()
        self._recoveries: list[int] = [0] * (len(BUCKETS) + 1)
        self._recovered = 0.0
        self._reaped = 0
        self._store_errors = 0
        self._store_contact: float | None = None
        self._cpu = CpuCounter()

    def observe_restart(self, reason: Reason, origin_rank: int) -> None:
        """Count a restart of the Unit that ``origin_rank``'s failure caused."""
        self._restarts[reason.value, str(origin_rank)] += 1

    def observe_exit(self, code: int) -> None:
        """Count an end of the workload; ``code`` as a shell reports it (128 + signal)."""
        self._exits[(str(code),)] += 1

    def observe_recovery(self, total: float) -> None:
        """Count a recovery that took ``total`` seconds."""
        bucket = next((place for place, limit in enumerate(BUCKETS) if total <= limit), len(BUCKETS))
        self._recoveries[bucket] += 1
        self._recovered += total

    def observe_reaped(self, count: int = 1) -> None:
        """Count processes reaped that were not the workload's main process."""
        self._reaped += count

    def observe_store_error(self) -> None:
        """Count an exchange that got no answer."""
        self._store_errors += 1

    def observe_store_contact(self, now: float) -> None:
        """Remember when the store last answered, in seconds of the monotonic clock."""
        self._store_contact = now

    def render(
        self, status: Mapping[str, Any], now: float, processes: Sequence[Mapping[str, Any]] | None = None
    ) -> bytes:
        """Return everything as Prometheus text (format 0.0.4).

        Args:
            status: as ``/status`` shows it.
            now: seconds, of the same clock as contacts.
            processes: what each process of the workload uses, as ``/processes`` shows it; None if that is
                not known.

        """
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(
            _Snapshot(
                [
                    *self._collect_state(status),
                    *self._collect_counters(),
                    *self._collect_store(status, now),
                    *(self._collect_usage(processes) if processes is not None else ()),
                ]
            )
        )
        return generate_latest(registry)

    def _collect_state(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        instances = status["instances"]
        mine = next((each["state"] for each in instances if each["rank"] == self._rank), None)
        yield _make_gauge("build_info", "Version of this agent.", [((__version__,), 1)], "version")
        yield _make_number("unit_size", "Instances in the Unit.", status["size"])
        yield _make_number("rank", "Rank of this instance.", self._rank)
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
        files = status.get("warm_files") or {}
        sizes = [((kind,), files[f"{kind}_bytes"]) for kind in ("total", "read", "resident") if files]
        yield _make_gauge("warm_files_bytes", "Files of UNIT_WARM_FILES.", sizes, "kind")
        spans = [((stage,), status["recovery"].get(stage)) for stage in STAGES]
        yield _make_gauge(
            "recovery_seconds", "Time that each stage of the last restart took.", spans, "stage"
        )

    def _collect_counters(self) -> Iterator[Metric]:
        restarts, exits = self._restarts, self._exits
        yield _make_counter(
            "restarts", "Restarts of the Unit, by first cause.", restarts, "reason", "origin_rank"
        )
        yield _make_counter("workload_exits", "Workload exits on this instance, by exit code.", exits, "code")
        yield _make_counter("reaped", "Orphans reaped.", {(): self._reaped})
        yield _make_counter("store_errors", "Exchanges without an answer.", {(): self._store_errors})
        yield self._make_histogram()

    def _collect_store(self, status: Mapping[str, Any], now: float) -> Iterator[Metric]:
        yield _make_number("store_connected", "Whether the store answers.", status["store"]["connected"])
        age = None if self._store_contact is None else max(0.0, now - self._store_contact)
        yield _make_number("store_last_contact_seconds", "Time since the store last answered.", age)

    def _collect_usage(self, processes: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
        self._cpu.advance({each["pid"]: each["cpu_seconds"] for each in processes})
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

    def _make_histogram(self) -> Metric:
        from prometheus_client.metrics_core import HistogramMetricFamily  # noqa: PLC0415

        limits = [*map(str, BUCKETS), "+Inf"]
        buckets = [(limit, float(sum(self._recoveries[: place + 1]))) for place, limit in enumerate(limits)]
        return HistogramMetricFamily(
            "unitagent_recovery_duration_seconds",
            "Time from a failure until the Unit served again.",
            buckets=buckets,
            sum_value=self._recovered,
        )


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

    def advance(self, seconds: Mapping[int, float]) -> None:
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


def _make_counter(name: str, help_text: str, counts: Mapping[Any, float], *labels: str) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily  # noqa: PLC0415

    family = CounterMetricFamily(f"unitagent_{name}", help_text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family
