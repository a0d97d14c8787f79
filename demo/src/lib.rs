//! Moves a busy service between stores on the sandbox and lets its visitors judge. The visitors know only HTTP; what
//! they conclude is decided by pure functions in `judge`. Nobody trusts the copier: into the stores only
//! `world` looks, before and after the move, for what it may have left.

pub mod bench;
pub mod browser;
pub mod canary;
pub mod cluster;
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
