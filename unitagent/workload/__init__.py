"""The workload: the user's command with all its descendants."""
