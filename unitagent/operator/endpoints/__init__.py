"""``unitagent endpoints``: where rank 0 of each Unit is that takes traffic, in the words of who sends it."""
