"""The names of a Unit's keys in Redis. All share one hash tag, so a Cluster keeps them on one node."""

from __future__ import annotations

from msgspec import Struct

DAY = 86400  # seconds that an abandoned Unit is remembered
KEPT_OUTPUTS = 4  # generations whose last output is kept
KEPT_EVIDENCE = 8  # generations whose evidence is listed
KEPT_EVENTS = 5000  # of a Unit's history, about 2 MB

# All that an agent or an operator asks of a server, in the words of an ACL.
PERMISSIONS = (
    "+evalsha +eval +type +del +hget +hmget +hset +hsetnx +hdel +time +zadd +zscore +zrangebyscore +ttl "
    "+expire +publish +subscribe +ping +hgetall +get +set +xadd +xrange +xrevrange"
)
SELECT = "+select"  # additionally, for a database other than 0
CLUSTER = "+cluster|slots"  # additionally, on the nodes of a Cluster
SENTINEL = "+ping +sentinel|get-master-addr-by-name"  # all that is asked of a Sentinel

# A hash of all Units, written by each one's rank 0. The name cannot collide with a Unit's own key.
REGISTRY = "unitagent:{registry}:units"


class KeyNames(Struct, frozen=True):
    """Names of one Unit's keys and of its channel."""

    unit: str

    @property
    def membership_table(self) -> str:
        """A hash: records, holders, beats, generation, first failure, order."""
        return f"unitagent:{{{self.unit}}}:board"

    @property
    def changes(self) -> str:
        """A sorted set: rank -> version of its record."""
        return f"unitagent:{{{self.unit}}}:changes"

    @property
    def wakeup_channel(self) -> str:
        """The channel on which agents say "look"."""
        return f"unitagent:{{{self.unit}}}:look"

    @property
    def history(self) -> str:
        """A stream: what happened, oldest first."""
        return f"unitagent:{{{self.unit}}}:history"

    @property
    def spares(self) -> str:
        """A hash: number -> the spare that stands by there."""
        return f"unitagent:{{{self.unit}}}:spares"

    def name_output(self, generation: int) -> str:
        """A place for a generation's last output, that it shares with older ones."""
        return f"unitagent:{{{self.unit}}}:output:{generation % KEPT_OUTPUTS}"

    def name_evidence(self, generation: int) -> str:
        """A hash: rank -> evidence of a generation; the key is reused after ``KEPT_EVIDENCE`` ones."""
        return f"unitagent:{{{self.unit}}}:evidence:{generation % KEPT_EVIDENCE}"
