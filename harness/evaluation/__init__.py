"""Cases × formats × backend → cells."""
