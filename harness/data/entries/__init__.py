"""Read the messages of one row, in any schema: thoughts, calls, results, parts."""
