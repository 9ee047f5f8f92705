"""Training prompts: visual domains x camera complexity, composed by a seeded generator (paper, section 5)."""
