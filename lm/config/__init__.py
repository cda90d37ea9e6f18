"""The command line and the composed config, checked before any work; torch is imported only where needed."""
