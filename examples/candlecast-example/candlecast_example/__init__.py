"""One plug-in of each kind. Nothing is imported here: each loads when somebody asks for it."""
