"""May this person do that? Pure verdicts with reasons; nothing here asks the clock or a table."""
