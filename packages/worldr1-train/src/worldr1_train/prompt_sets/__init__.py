"""Generator of training prompts that combine visual domains and camera complexities (paper, section 5)."""
