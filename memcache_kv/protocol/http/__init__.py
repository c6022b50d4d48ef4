"""HTTP: framing, which any site can use, and the site that serves the items."""
