"""The store: how agents see each other."""
