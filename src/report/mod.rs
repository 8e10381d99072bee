//! The daily report on its way: what an answer means for a report that was sent.

pub mod delivery;
