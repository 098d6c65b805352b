"""What is learned: the table of tasks, the files they come in, and the examples read from them."""
