"""Every key of our own sections, as data: the reader, the docs and the tests walk these."""
