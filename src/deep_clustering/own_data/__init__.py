"""`kedro new-data`: a look at somebody's own data, and the environment that suits it."""
