//! Statistics for people and programs.

pub(crate) mod kernel_drops;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod sources;
pub(crate) mod stat_fields;
pub(crate) mod statistics;
pub(crate) mod stats_file;
