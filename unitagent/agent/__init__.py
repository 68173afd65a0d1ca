"""``unitagent run``: the shell around the core, where the rooms meet."""
