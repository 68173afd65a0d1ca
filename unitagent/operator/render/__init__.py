"""Render: a service file's content as manifests for an engine that exists: Compose, Swarm, LeaderWorkerSet.

The invariant: pure. A ``Service`` goes in, mappings come out; what an engine cannot express is left out, and
said by ``unexpressed``, never approximated.
"""
