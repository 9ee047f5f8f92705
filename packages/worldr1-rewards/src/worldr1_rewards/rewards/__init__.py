"""The rewards that ship with the package; each reads what it declares and answers with a number or a reason."""
