"""From text to token ids: encoding with a mask, control tokens, checks of a tokenizer."""
