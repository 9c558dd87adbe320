"""What a recipe teaches, what it recites, and how much of the gap between formats it closes."""
