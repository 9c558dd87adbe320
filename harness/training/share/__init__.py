"""An adapter made ready for others: averaged, merged, exported, with its model card."""
