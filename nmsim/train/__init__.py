"""Training in NumPy: data, layers, sparse recipes and the loop that runs them."""
