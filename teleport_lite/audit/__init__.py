"""The audit trail: what was tried, by whom, and how it ended."""
