"""Attacks on real agents and stores, each carried out by a small program beside it."""
