"""Files: atomic writes, streams such as /dev/stdout, external text, and system errors in one line."""
