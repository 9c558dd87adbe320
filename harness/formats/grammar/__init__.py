"""Prompt formats sampled from a grammar of tags, headings and separators."""
