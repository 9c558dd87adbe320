"""Read the calls in a generated answer, in the styles that formats write them in."""
