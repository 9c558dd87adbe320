"""The messages of one row, in any spelling: thoughts, calls, results, parts → ours."""
