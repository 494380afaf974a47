"""The wire: links that carry Ethernet frames, and what can be wrapped around them."""
