//! The backends' door as backends meet it: real gRPC over a real port, the embedded broker behind it.

mod harness;
mod keys;
mod presence;
mod publish;
mod refuse;
mod surface;
