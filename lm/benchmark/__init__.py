"""How fast is this project? Its own loops against a plain PyTorch loop, in turns on the same machine."""
