"""Programs that attack; none of them knows a secret."""
