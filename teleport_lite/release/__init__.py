"""The program as a file: where it is published, how it is verified, placed, upgraded and removed."""
