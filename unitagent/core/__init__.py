"""The pure core: time and the world come in as events, effects leave as actions."""
