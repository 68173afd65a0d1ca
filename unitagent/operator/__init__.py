"""Operator: the commands a person uses on a Unit."""
