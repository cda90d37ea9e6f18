"""How fast is this, and against what? A plain loop, our own, and a race between them on the same machine."""
