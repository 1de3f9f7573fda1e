"""The pages of the console, a module for each subject.  Each Page in a module belongs to it (`declarations`)."""
