"""``unitagent render``: a service file as manifests for an existing engine: Compose, Swarm, LeaderWorkerSet.

The invariant: pure. A ``Service`` goes in, mappings come out; what an engine does not support is omitted and
reported by ``unsupported``, never approximated.
"""
