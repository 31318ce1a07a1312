"""Models whose points a flow carries: classifier, regressor, density, ResNet."""
