//! Tests of cutting and merging, alone and against each other.

mod coalesce;
mod split;
