"""Image models that VBench's dimensions read frames with, loaded from released weights."""
