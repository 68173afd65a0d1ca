"""``unitagent doctor``: preflight checks of a container. None of them changes anything."""
