"""Frameworks: what each engine needs on its command line, per rank.

The user writes one command for all ranks; a framework completes it for one of them. What the user wrote wins.
"""
