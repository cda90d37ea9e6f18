"""The command line and the composed config, checked before any work; nothing here imports torch before it is needed."""
