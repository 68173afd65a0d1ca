"""Frameworks: what each engine needs on its command line, per rank."""
