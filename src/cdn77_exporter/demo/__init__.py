"""The demonstration: traffic as the CDN would write it, and a look at what comes out."""
