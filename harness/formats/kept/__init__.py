"""Chat templates that are kept as they are: spans by tracing, facts by probing, proofs."""
