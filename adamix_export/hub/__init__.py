"""Files that make a bundle a model repository of the Hugging Face Hub."""
