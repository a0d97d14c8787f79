//! A local emulator of the clouds an App Runner session store lives in.
//! Control plane and data plane meet only in [`dataplane`].

pub mod admin;
pub mod api;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod dataplane;
pub mod fault;
pub mod models;
pub mod network;
pub mod plane;
pub mod state;
pub mod wire;
