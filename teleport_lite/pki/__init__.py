"""Keys and certificates: planned, signed, verified. The only user of `cryptography`."""
