"""Human-preference models that score a picture against the words it was made from."""
