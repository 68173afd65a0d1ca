"""What the probes say against what is true: the table of the contract's section on probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitagent.core import probe_answers

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.watch import Watch


class Probing:
    """Asks every probe of an instance now and then."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._served: set[str] = set()

    def look(self, one: Instance) -> None:
        """The codes of one instance's probes, each against its line in the table."""
        state = one.state
        ready, leads = one.ready, one.rank == 0
        going = one.asked is not None or state.me.stop_requested or state.shutdown.draining_since is not None
        truth = {
            "/livez": 200,
            "/readyz": 200 if ready and not going else 503,
            "/traffic": 404 if going or not leads else 200 if ready else 503,
        }
        said = {
            "/livez": probe_answers.answer_livez(state).code,
            "/readyz": probe_answers.answer_readyz(state).code,
            "/traffic": probe_answers.answer_traffic(state).code,
        }
        for path, code in said.items():
            if code != truth[path]:
                self.watch.report_violation(
                    "probes", f"{one.incarnation} says {code} to {path}, not {truth[path]}"
                )
        self._check_startup(one, probe_answers.answer_startupz(state).code)

    def _check_startup(self, one: Instance, code: int) -> None:
        """Some generation of this agent's life has been ready: told from when all runs, and not before."""
        runs = one.workload is not None and self.watch.world.is_complete(one.workload.gang)
        if runs:
            self._served.add(one.incarnation)
        if code == 200 and one.incarnation not in self._served and not self._ran_between(one):
            self.watch.report_violation(
                "probes", f"{one.incarnation} says 200 to /startupz before its Unit was ready"
            )
        settled = one.in_contact_since(self.watch.world.now - self.watch.world.bounds.agreed)
        late = code != 200 and one.ready and settled
        if (
            self.watch.lookout.measure_duration("startup", one.incarnation, late)
            > self.watch.world.bounds.agreed
        ):
            self.watch.report_violation("probes", f"{one.incarnation} is ready, and says {code} to /startupz")

    def _ran_between(self, one: Instance) -> bool:
        """Whether it may have run as a whole between two looks."""
        return any(
            one.incarnation in gang.incarnations
            for gangs in self.watch.starts.gangs.values()
            for gang in gangs
        )
