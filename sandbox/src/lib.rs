//! A local emulator of the clouds an App Runner session store lives in.
//! Control plane and data plane meet only in [`dataplane`].

pub mod dataplane;
pub mod plane;
