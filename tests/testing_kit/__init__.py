"""The conformance kits, tried on components that are broken on purpose: one for every check."""
