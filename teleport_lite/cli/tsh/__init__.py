"""The commands of tsh."""
