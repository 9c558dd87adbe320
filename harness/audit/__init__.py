"""What a fine-tuned model was trained in, and what it shows in one format only.

``harness.audit.guess.guess_format`` needs its weights and those of its base;
``harness.audit.adapter_audit.audit`` also compares their answers.
"""
