"""What a fine-tuned model was trained in, from its weights and those of its base.

``harness.audit.guess.guess_format`` is the entrance.
"""
