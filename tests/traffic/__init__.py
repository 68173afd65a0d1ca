"""Real requests through a real HAProxy to real Units, while these are updated, drained and killed."""
