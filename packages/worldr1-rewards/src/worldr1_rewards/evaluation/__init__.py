"""Evaluation of folders of videos: matching with prompts, metrics of every video, statistics and tables."""
