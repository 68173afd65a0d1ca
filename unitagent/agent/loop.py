"""The imperative shell around the core, and the only place where the packages meet.

Events arrive through one queue, ``decide`` returns actions, and each action is handed to the component that
performs it. Only this loop changes the state; slow work runs as a task that ends by queueing an event.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from unitagent.agent.background_tasks import BackgroundTasks, ignore_failure
from unitagent.agent.history_writer import FailureOutput, HistoryWriter
from unitagent.agent.launch import NEVER_WARM, Launch, Launcher
from unitagent.agent.step_metrics import record_metrics
from unitagent.agent.workload_health import WorkloadMonitor
from unitagent.core import actions as act
from unitagent.core import events as ev
from unitagent.core import isolation
from unitagent.core.decide import decide, next_wakeup
from unitagent.core.exits import Exit
from unitagent.core.model import Failure, Gang, InstanceState, Reason
from unitagent.core.state import State, describe_rank, has_news, make_failure
from unitagent.core.state_parts import WorkloadPhase
from unitagent.discovery.master_port import PORTS_ABOVE, find_master_port
from unitagent.errors import CommandError, StoreError
from unitagent.probes.health import FailedProbe, HealthVerdict
from unitagent.probes.metrics import Metrics
from unitagent.probes.peers import Peers
from unitagent.store.protocol import Store
from unitagent.system.log import FIELDS, LogContext
from unitagent.workload.lifecycle import Workload
from unitagent.workload.signals import InheritedSignals, install_handlers
from unitagent.workload.watchdog_client import WatchdogClient

if TYPE_CHECKING:
    from unitagent.agent.engine_starts import EngineStarts
    from unitagent.agent.evidence_trigger import EvidenceTrigger
    from unitagent.agent.hook import HookRunner
    from unitagent.agent.keeper_runner import KeeperRunner
    from unitagent.agent.warm_starts import WarmStartScheduler
    from unitagent.workload.file_warmer import FileWarmer
    from unitagent.workload.output_log import OutputPage
    from unitagent.workload.usage import ProcessUsage

_log = logging.getLogger(__name__)

BUSY = 0.05  # seconds between two ticks while something is going on
_CHECK_INTERVAL = 1.0  # seconds between two checks of the workload's processes
_SHARED_MEMORY = 30  # checks between two samples of the resources that the workload uses
_RETRY_PAUSE = 1.0  # seconds before failed work is tried again
_TURNS_TO_SEND = 3  # of the event loop, until an exchange that was begun is sent
_LAST_WORDS = 0.5  # seconds to flush the workload's output


class Components(Struct, frozen=True, kw_only=True):
    """The components through which an agent acts."""

    store: Store
    workload: Workload
    peers: Peers
    launcher: Launcher
    metrics: Metrics
    watchdog: WatchdogClient
    history: HistoryWriter
    warmer: FileWarmer | None = None
    hook: HookRunner | None = None
    evidence: EvidenceTrigger | None = None
    warm: WarmStartScheduler | None = None
    keeper: KeeperRunner | None = None


class Agent:
    """One instance's agent, from the first exchange to its exit code.

    Attributes:
        stepped: set when something has happened or the store has answered.

    """

    def __init__(
        self, state: State, where: LogContext, stall: float = 0.0, termination_log: str | None = None
    ) -> None:
        self.state = state
        self._termination_log = termination_log
        self.stepped = asyncio.Event()
        self._where = where
        self._queue: asyncio.Queue[ev.Event] = asyncio.Queue()
        self._tasks = BackgroundTasks()
        self._stopping: asyncio.Task[None] | None = None
        self._stop_grace = 0.0
        self._monitor = WorkloadMonitor(self._on_verdict, self._on_probe, self._on_stall, stall)
        self._launch: Launch | None = None
        self._engine: EngineStarts | None = None
        self._storing: asyncio.Task[None] | None = None
        self._port = self._next_port = 0
        self._pending: Gang | None = None
        self._components: Components
        self._failure_output: FailureOutput

    def attach(self, components: Components) -> None:
        """Attach the components, which were built with this agent's callbacks."""
        self._components = components
        self._failure_output = FailureOutput(components.store)

    async def run(self, inherited: InheritedSignals) -> int:
        """Run until ``Quit``; return the exit code."""
        install_handlers(inherited, on_stop=self._on_signal, forward=self._components.workload.send_signal)
        self._tasks.keep_running(self._monitor_processes, _RETRY_PAUSE)
        self._tasks.keep_running(lambda: self._components.store.listen(self.request_exchange), _RETRY_PAUSE)
        self.enqueue_event(ev.Tick)
        code = None
        try:
            while code is None:
                event, late = await self._next_event()
                if late > 0:
                    code = await self._take_whole_step(ev.Tick(time.monotonic(), late))
                code = await self._take_whole_step(event) if code is None else code
        finally:
            if code is None:  # an internal error; outside a container the workload would keep running
                await self._components.workload.stop(0.0)
            await self._close_components()
        return code

    # events

    def request_exchange(self) -> None:
        """Exchange records with the store at once."""
        self.enqueue_event(ev.StoreNotified)

    @property
    def requests_in_flight(self) -> int | None:
        """Requests in flight at the last look; None while this instance does not drain."""
        inflight = self._launch.inflight if self._launch is not None else None
        draining = self.state.shutdown.draining is not None
        return inflight.last if inflight is not None and draining else None

    @property
    def start_report(self) -> dict[str, Any] | None:
        """How the workload was started, ``warm`` or ``cold``, and why; None before the first start."""
        warm = self._components.warm
        if warm is not None:
            return warm.report_start(self.state.config.rank)
        return NEVER_WARM if self._launch is not None else None

    @property
    def engine_report(self) -> dict[str, Any] | None:
        """What the last start of the engine was made of; None if its lines are not known."""
        return None if self._engine is None else self._engine.report_status(self.state.config.rank)

    async def sample_usage(self) -> list[ProcessUsage]:
        """Return what each process of the workload uses now."""
        return await self._components.workload.sample_usage()

    def read_output(self, after: int) -> tuple[list[str], OutputPage]:
        """Return which streams of the workload are kept, and a page of what they wrote lately."""
        output = self._components.workload.output
        return output.streams, output.read_page(after)

    def on_exit(self, ended: Exit, tail: list[str]) -> None:
        """The workload's main process ended."""
        if self._components.watchdog.has_killed():
            ended = replace(ended, by_watchdog=True)
        self._failure_output.remember_tail(self.state.me.generation, tail)
        self._components.metrics.observe_exit(ended.status)
        if ended.signal == signal.SIGINT and self._components.workload.has_terminal:
            self.enqueue_event(
                ev.StopAsked, signal.SIGINT
            )  # Ctrl-C on a terminal only reaches the workload, but is meant for both
        self.enqueue_event(ev.WorkloadExited, ended)

    def on_hangup(self, rank: int, incarnation: str) -> None:
        """A watched peer's connection broke."""
        self.enqueue_event(ev.PeerHungUp, rank, incarnation)

    def _on_signal(self, number: int) -> None:
        if self._components.evidence is not None:
            self._components.evidence.end()
        self.enqueue_event(ev.StopAsked, number)

    def enqueue_event(self, kind: Callable[..., ev.Event], *facts: Any) -> None:
        """Take an event that happens now."""
        self._queue.put_nowait(kind(time.monotonic(), *facts))

    async def _next_event(self) -> tuple[ev.Event, float]:
        """Return the next event or tick, and by how many seconds it is late.

        Ticks come when the next deadline is due, and often while something is going on.
        """
        loop, pause = asyncio.get_running_loop(), self._compute_pause()
        timer = loop.call_later(pause, self.enqueue_event, ev.Tick)
        due = loop.time() + pause
        try:
            event = await self._queue.get()
        finally:
            timer.cancel()
        return event, loop.time() - due - self.state.config.timing.tick

    def _compute_pause(self) -> float:
        """Return the seconds until the next tick; a deadline that passed without effect does not count."""
        tick, wake = self.state.config.timing.tick, next_wakeup(self.state)
        if wake is not None and (left := wake - time.monotonic()) > 0:
            return left
        return tick if self._is_calm() else min(tick, BUSY)

    def _is_calm(self) -> bool:
        state = self.state
        end = state.shutdown
        undisturbed = end.asked is None and end.draining is None and end.leaving is None
        return undisturbed and (state.me.state.serving or state.me.state is InstanceState.IDLE)

    # actions

    async def _take_whole_step(self, event: ev.Event) -> int | None:
        code = self._take_step(event)
        if self._pending is not None:
            await self._spawn_pending(self._pending)
        return code

    def _take_step(self, event: ev.Event) -> int | None:
        """Decide and act; return the exit code once the agent has to exit."""
        before = self.state
        self.state, actions = decide(before, event)
        if self._components.evidence is not None:
            self._components.evidence.decisions.remember_step(self.state, event, actions)
        if has_news(before, self.state):
            self.stepped.set()
        self._where.generation = self.state.me.generation
        self._feed_watchdog()
        record_metrics(self._components.metrics, before, self.state)
        events = self._components.history.observe_step(before, self.state, actions)
        if self._components.hook is not None and events:
            self._components.hook.observe_events(self.state, events)
        if self._components.warm is not None and not self.state.loads_keepers:
            self._components.warm.observe_step(self.state, self._launch)
        if self._engine is not None:
            self._engine.observe_step(self.state)
        if (output := self._failure_output.take_output(self.state)) is not None:
            self._storing = self._tasks.start_task(self._failure_output.store_output(output), ignore_failure)
        for action in actions:
            if isinstance(action, act.Quit):
                self._write_reason(f"exit {action.code}: {action.why}")
                return action.code
            self._perform_action(action)
        return None

    def _wants_reason(self) -> bool:
        from unitagent.system import termination_log  # noqa: PLC0415 (as below)

        return termination_log.is_wanted(self._termination_log)

    def _write_reason(self, reason: str) -> None:
        from unitagent.system import termination_log  # noqa: PLC0415 (a Unit that serves has no reason)

        termination_log.write_reason(self._termination_log, reason)

    def _feed_watchdog(self) -> None:
        """Extend the watchdog's deadline, from our last contact with anybody who knows our place."""
        if self.state.occupied:
            last, seconds = isolation.last_contact(self.state), self.state.config.timing.watchdog
            self._components.watchdog.extend_deadline(last, seconds)
        else:
            self._components.watchdog.disarm()

    def _perform_action(self, action: act.Action) -> None:
        match action:
            case act.Log():
                self._log_action(action)
            case act.Exchange():
                self._tasks.start_task(
                    self._exchange_records(action),
                    lambda error: self.enqueue_event(ev.StoreFailed, repr(error)),
                )
            case act.AskPeer() | act.CheckPeers() | act.WatchPeers():
                self._perform_peer_action(action)
            case act.SpawnKeeper() | act.StopKeeper() if self._components.keeper is not None:
                self._components.keeper.perform_action(action, self._tasks)
            case act.FindPort():
                self._tasks.keep_running(lambda: self._find_master_port(action), _RETRY_PAUSE)
            case act.Spawn():
                self._pending = action.gang
            case act.Stop():
                self._begin_stop(action.grace)
            case act.AwaitDrain():
                self._tasks.start_task(self._await_drain(), lambda _: self.enqueue_event(ev.Drained))

    def _log_action(self, action: act.Log) -> None:
        _log.log(action.level, "%s", action.text, extra={FIELDS: action.describe()})
        if action.event == "failure" and self._wants_reason():
            self._tasks.start_task(self._keep_reason(action.text), ignore_failure)

    async def _keep_reason(self, reason: str) -> None:
        """Write the reason now: who is killed before the end writes none then. A disk may take its time."""
        await asyncio.to_thread(self._write_reason, reason)

    # the store

    async def _exchange_records(self, action: act.Exchange) -> None:
        began = time.monotonic()
        try:
            reply = await self._components.store.exchange(action)
        except StoreError as error:
            self._components.metrics.observe_store_error()
            _log.debug("%s", error)
            self.enqueue_event(ev.StoreFailed, str(error))
        else:
            now = time.monotonic()
            self._components.metrics.observe_store_contact(now)
            self._components.metrics.observe_exchange(now - began)
            self.enqueue_event(ev.Exchanged, reply)

    # the peers

    def _perform_peer_action(self, action: act.AskPeer | act.CheckPeers | act.WatchPeers) -> None:
        match action:
            case act.AskPeer():
                self._tasks.start_task(
                    self._ask_peer(action), lambda _: self._report_answer(action, ev.ProbeResult.SILENT)
                )
            case act.CheckPeers():
                self._tasks.start_task(self._check_peers(action), lambda _: self._report_no_answers(action))
            case act.WatchPeers():
                self._components.peers.watch_peers(action.peers)

    async def _ask_peer(self, action: act.AskPeer) -> None:
        self._report_answer(action, *await self._components.peers.ask_peer(action.peer))

    def _report_answer(self, action: act.AskPeer, *verdict: Any) -> None:
        self.enqueue_event(ev.PeerAnswered, action.peer.rank, action.peer.incarnation, *verdict)

    async def _check_peers(self, action: act.CheckPeers) -> None:
        answers = await self._components.peers.check_peers(action.peers)
        self.enqueue_event(ev.PeersChecked, action.gang, answers)

    def _report_no_answers(self, action: act.CheckPeers) -> None:
        silent = {peer.incarnation: ev.ProbeResult.SILENT for peer in action.peers}
        self.enqueue_event(ev.PeersChecked, action.gang, silent)

    # the workload

    async def _find_master_port(self, action: act.FindPort) -> None:
        while action.generation == self.state.me.generation:
            try:
                port, following = self._choose_ports()
            except OSError as error:
                _log.warning("cannot find a free master port, trying again: %s", error)
                await asyncio.sleep(_RETRY_PAUSE)
            else:
                self._port, self._next_port = port, following
                self.enqueue_event(ev.PortFound, action.generation, port, following)
                return

    def _choose_ports(self) -> tuple[int, int]:
        """Choose a port and the next one, 0 if there is none: others know it from here, and need not wait for
        it in a restart.

        Some twenty binds without a wait, a third of a millisecond; a thread would take as long to begin.
        """
        ip = self.state.me.ip
        kept = self.state.keeper.gang
        used = (self._port,) if kept is None else (self._port, kept.master_port)
        port = find_master_port(ip, used, self._next_port)
        try:
            return port, find_master_port(ip, (*used, port))
        except OSError:
            return port, 0

    async def _spawn_pending(self, gang: Gang) -> None:
        """Spawn the workload of the last step, before the next event. The exchange of that step, for which
        others may wait, is sent first: a spawn takes ten times as long.
        """
        self._pending = None
        for _ in range(_TURNS_TO_SEND):
            await asyncio.sleep(0)
        self._spawn_workload(gang)

    def _spawn_workload(self, gang: Gang) -> None:
        if self._components.warmer is not None:
            self._components.warmer.stop("the workload started")
        try:
            self._launch = launch = self._components.launcher.prepare_launch(gang)
            block = range(gang.master_port, gang.master_port + PORTS_ABOVE + 1)
            ports = block if self.state.config.rank == 0 else ()
            pid = self._components.workload.spawn(
                launch.argv, launch.env, launch.required_processes, ports=ports, generation=gang.generation
            )
        except CommandError as error:
            _log.error("%s", error)
            self.enqueue_event(ev.WorkloadExited, Exit(error.exit_code, None))
            return
        self._follow_start(launch, gang.generation)
        report = None if self._components.warm is None else self._components.warm.starter.report
        self.enqueue_event(ev.Spawned, pid, "" if report is None else report.describe())
        self._components.metrics.observe_start(warm=report is not None and report.warm)
        self._monitor.start_probes(launch, health=self.state.config.health)
        _log.info("started process %d: %s", pid, launch.describe_command())

    def _follow_start(self, launch: Launch, generation: int) -> None:
        if self._engine is None and launch.phase_lines:
            from unitagent.agent.engine_starts import EngineStarts  # noqa: PLC0415 (few engines are known)

            output = self._components.workload.output
            self._engine = EngineStarts(self._components.history, self._tasks, output.set_listener)
        if self._engine is not None:
            self._engine.begin(launch.phase_lines, generation)

    def _begin_stop(self, grace: float) -> None:
        self._monitor.stop_probes()
        if self._launch is not None and self._launch.ignores_sigterm:
            grace = 0.0
        if self._stopping is None:
            self._stop_grace = grace
            self._stopping = self._tasks.start_task(self._await_stop(), self._report_stop_failure)
        elif grace == 0:
            self._stop_grace = 0.0
            if self._components.evidence is not None:
                self._components.evidence.interrupt()
            self._components.workload.force_stop()

    async def _await_stop(self) -> None:
        """Stop the workload, once the evidence of a failure is collected; see :mod:`evidence_trigger`."""
        if self._components.evidence is not None:
            await self._components.evidence.collect_before_stop(self.state, self._components.workload)
        stuck = await self._components.workload.stop(self._stop_grace)
        self._stopping = None
        if stuck is None:
            self.enqueue_event(ev.WorkloadGone)
        else:
            self.enqueue_event(ev.WorkloadStuck, stuck.why)

    def _report_stop_failure(self, error: BaseException) -> None:
        self._stopping = None
        self.enqueue_event(ev.WorkloadStuck, f"the workload could not be stopped: {error!r}")

    async def _monitor_processes(self) -> None:
        """Detect a workload that keeps running without a process that it needs."""
        for second in itertools.count(1):
            await self._components.workload.wait_for_death(_CHECK_INTERVAL)
            if second % _SHARED_MEMORY == 0:
                await self._components.workload.sample_resources()
            if self._components.warm is not None:
                await self._components.warm.learn_environment(self._components.workload.list_pids)
            dead = await self._components.workload.find_dead_process()
            if dead is not None and self.state.workload.phase is WorkloadPhase.ALIVE:
                ended = dead.exit or Exit(0, None)
                failure = self._make_failure(Reason(ended.reason), dead.describe(), ended.signal)
                self.enqueue_event(ev.WorkloadUnhealthy, failure)

    def _on_verdict(self, verdict: HealthVerdict) -> None:
        if not (verdict.healthy or verdict.fatal):
            _log.warning("no traffic until the readiness check passes again: %s", verdict.detail)
        self.enqueue_event(ev.HealthChecked, verdict.healthy, verdict.detail, verdict.fatal)

    def _on_probe(self, probe: FailedProbe) -> None:
        if probe.problem and probe.answered:
            self._components.metrics.observe_failed_check()
        self.enqueue_event(ev.HealthProbed, probe.target, " ".join(probe.problem.split()), probe.answered)

    def _on_stall(self, why: str) -> None:
        self.enqueue_event(ev.WorkloadUnhealthy, self._make_failure(Reason.STALLED, why))

    def _make_failure(self, reason: Reason, why: str, number: int | None = None) -> Failure:
        rank = self.state.config.rank
        failure = make_failure(self.state, rank, reason, f"{describe_rank(self.state, rank)}: {why}")
        return replace(failure, signal=number)

    async def _await_drain(self) -> None:
        inflight = self._launch.inflight if self._launch is not None else None
        if inflight is not None:
            await inflight.wait_idle()
        self.enqueue_event(ev.Drained)

    async def _close_components(self) -> None:
        if self._storing is not None:
            await asyncio.wait((self._storing,), timeout=_LAST_WORDS)
        if self._components.hook is not None:
            await self._components.hook.close()
        if self._components.evidence is not None:
            await self._components.evidence.close()
        await self._tasks.close()
        self._components.peers.close()
        if self._components.warm is not None:
            self._components.warm.close()
        if self._components.keeper is not None:
            await self._components.keeper.close(_LAST_WORDS)
        await self._components.workload.close(_LAST_WORDS)
        await self._components.store.close()
