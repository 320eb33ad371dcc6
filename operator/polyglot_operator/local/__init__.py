"""A PolyglotService without a cluster: the two real programs on 127.0.0.1, with the settings that the operator renders.

`polyglot serve` starts here: `serve.py` leads, the other files each know one thing about it.
"""
