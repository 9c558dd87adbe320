"""What is asked: cases from files and benchmarks, and variants of them at depth."""
