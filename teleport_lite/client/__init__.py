"""What people's tools do: find credentials, and ask the auth service."""
