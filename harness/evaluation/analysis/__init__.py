"""From aggregates to findings: the report, and each table behind it."""
