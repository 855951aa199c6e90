//! Connections between the listener and HTTP: what they hold, what they do, and who goes when there is no room.

pub mod budget;
pub mod registry;
pub mod watched;
