"""The site of the admin listener: health, metrics, statistics and versions by HTTP."""
