"""GGUF files in llama.cpp: its server in a process of its own, its library, a file's metadata."""
