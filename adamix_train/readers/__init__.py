"""Read examples from files and from the Hugging Face Hub."""
