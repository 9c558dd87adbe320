"""How often the adapters of the shipped recipes obey forged turns: docs/forged-turns.md."""
