"""Camera paths: poses and intrinsics, the prompt vocabulary, file formats, metrics and plots."""
