//! Cgroups: makes, joins, limits, freezes, measures and removes the cgroups of a container.
