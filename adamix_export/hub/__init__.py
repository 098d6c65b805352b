"""Files that make a bundle a model repository on the Hugging Face Hub."""
