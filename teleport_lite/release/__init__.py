"""The program as a file: how it is published, verified, placed, upgraded and removed."""
