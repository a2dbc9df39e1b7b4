"""Where the auth role remembers things. Stores keep and find; they never word an error."""
