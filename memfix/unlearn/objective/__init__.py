"""What a step minimises: terms, combiners and modifiers, which methods are made of."""
