"""Probes: answers to health checks and peers over HTTP."""
