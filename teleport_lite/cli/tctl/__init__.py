"""The commands of tctl, one file for each noun."""
