"""Conversation files and checks on a training set. Never imports torch."""
