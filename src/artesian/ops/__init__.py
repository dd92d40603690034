"""The narrow waist of the engine: the operations that models are made of."""
