"""What every joined process does: join, keep its identity, renew it, report itself."""
