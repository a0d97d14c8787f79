//! Moves a busy service between stores on the sandbox and lets its visitors judge. The visitors know only HTTP; what
//! they conclude is decided by pure functions in `judge`. Nothing here looks into a store or trusts the copier.

pub mod browser;
pub mod crowd;
pub mod fleet;
pub mod judge;
pub mod manifest;
pub mod pace;
pub mod people;
pub mod product;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod tally;
pub mod terminal;
pub mod visit;
pub mod visitor;
pub mod world;
