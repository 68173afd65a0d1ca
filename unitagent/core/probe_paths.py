"""The one table of probes: what each is called, where it is asked, and which rule answers it.

The invariant: a probe is one row here and one rule in :mod:`unitagent.core.probe_answers`. The server's
paths, the text of its 404, the words of ``unitagent probe``, its help, shell completion and the table of
``unitagent/operator/README.md`` follow from the rows. A health check reads this table every few seconds, so
it imports nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Probe(NamedTuple):
    """One probe.

    Attributes:
        word: of ``unitagent probe``.
        paths: at the probe address; the first is its own, the others are aliases.
        rule: the function of :mod:`unitagent.core.probe_answers` that answers it from a state, by name,
            because those rules import the whole core.
        passes: in a table and in help, when the answer is 200.
        otherwise: the other codes, and what they mean.
        on_standby: whether an instance without a rank, which has no state that a rule could judge, answers
            200; it decides ``/readyz`` and ``/traffic`` by itself.

    """

    word: str
    paths: tuple[str, ...]
    rule: str
    passes: str
    otherwise: str = "503"
    on_standby: bool = False

    @property
    def path(self) -> str:
        """The path that the others are aliases of."""
        return self.paths[0]


LIVE = Probe(
    word="live",
    paths=("/livez", "/healthz"),
    rule="answer_livez",
    passes="the agent's own loop is alive, whatever the store, the peers and the workload do",
    on_standby=True,
)
READY = Probe(
    word="ready",
    paths=("/readyz",),
    rule="answer_readyz",
    passes="the whole Unit serves; the same answer on every rank",
)
TRAFFIC = Probe(
    word="traffic",
    paths=("/traffic",),
    rule="answer_traffic",
    passes="the whole Unit serves, and this is rank 0",
    otherwise="404 on other ranks and while draining, 503 otherwise",
)
STARTUP = Probe(
    word="startup",
    paths=("/startupz",),
    rule="answer_startupz",
    passes="some generation in this agent's life has been ready",
    on_standby=True,
)

PROBES = (LIVE, READY, TRAFFIC, STARTUP)
PROBES_BY_WORD = {probe.word: probe for probe in PROBES}
PROBES_BY_PATH = {path: probe for probe in PROBES for path in probe.paths}
