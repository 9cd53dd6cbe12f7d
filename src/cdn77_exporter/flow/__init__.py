"""The stages and how they are joined; it declares the ports that it needs and never imports an edge."""
