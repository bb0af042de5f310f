"""What recipes leave of a language model's knowledge, beside its perplexity."""
