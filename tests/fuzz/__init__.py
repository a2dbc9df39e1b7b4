"""Whatever bytes come in: a value or a declared error, in little time and memory (docs/fuzzing.md)."""
