//! The one process beside a container: it starts it, owns its output and its log, answers who attaches and who waits,
//! writes down how it ended and starts it again.
