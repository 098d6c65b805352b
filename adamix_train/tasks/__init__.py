"""The table of tasks and the kinds of tasks."""
