"""From vectors to scores: kernels, support vector machines, protocols and metrics."""
