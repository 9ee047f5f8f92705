"""The commands of the `worldr1` program that core provides."""
