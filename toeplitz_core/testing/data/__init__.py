"""The numbers of a case: operands, recipes, gradients."""
