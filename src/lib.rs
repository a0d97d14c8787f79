//! sessionbackend
