"""What happened to a Unit, for people and programs."""
