"""Builds the roles a config asks for, connects them by hand, and keeps them running."""
