"""``unitagent run``: the imperative shell around the core, where the packages meet."""
