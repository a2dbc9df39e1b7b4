"""The auth role: holds the CA keys and every decision. Roles never import each other."""
