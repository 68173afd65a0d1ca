"""What can go wrong in a simulated world: each fault is a function of the world, drawn with its weight."""
