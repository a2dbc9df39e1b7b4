"""Whatever bytes come in: a value or a declared error, soon and in little memory."""
