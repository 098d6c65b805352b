"""Habits that all commands share: shell completion, and progress that suits a terminal, a pipe and a log."""
