"""The commands of tbot."""
