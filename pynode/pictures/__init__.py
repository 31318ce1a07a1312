"""Pictures of models whose points are carried by a flow: a module a kind of model."""
