"""Which tokens other trainers train on: TRL, axolotl and unsloth, by their documented rules."""
