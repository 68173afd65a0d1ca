"""``unitagent doctor``: what each group of checks makes of what it saw. Nothing in here changes anything."""
