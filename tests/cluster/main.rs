//! On a real API server: what it admits and refuses of our definition, and the operator beside it as a process.
//! Where no API server can be had these tests say so and pass; with `CI=true` they fail.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::pedantic)]

mod admission;
mod plane;
mod verdict;
