"""Rewards of the package; each reads the inputs that it declares and returns a number or a reason."""
