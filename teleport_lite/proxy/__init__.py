"""The proxy role. Not built yet: a host joins as one, announces itself, and says so."""
