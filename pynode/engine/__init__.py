"""One solve, its gradients and its sensitivities: from checked arguments to results."""
