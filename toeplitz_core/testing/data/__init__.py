"""The numbers of a case: its operands, drawn by recipes, and its gradients."""
