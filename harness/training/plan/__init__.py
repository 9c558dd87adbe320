"""What a run would do and the memory it would take, before it starts."""
