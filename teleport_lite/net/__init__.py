"""Pipes: TLS, HTTPS, the agent stream and SSH. Decides nothing about people or hosts."""
