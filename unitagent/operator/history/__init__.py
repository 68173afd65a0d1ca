"""``unitagent events`` and ``timeline``: a Unit's history for people and programs."""
