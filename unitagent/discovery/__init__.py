"""Discovery: who and where this instance is."""
