"""Parse the calls in a generated answer, in the styles that formats use."""
