"""Attacks carried out on real parts: each test is one that once worked."""
