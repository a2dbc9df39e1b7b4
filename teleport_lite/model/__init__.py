"""The nouns: frozen values without I/O. If it could be built, it is valid."""
