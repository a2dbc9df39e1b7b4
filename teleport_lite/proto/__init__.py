"""What the roles say to each other: messages and their readers. No sockets, clocks or keys."""
