"""Evaluation of a trained model: the paper's tables and figures as tasks, and the measures they use."""
