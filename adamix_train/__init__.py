"""Train mixtures of adaptation modules (AdaMix) on Hugging Face models, as a PEFT method."""
