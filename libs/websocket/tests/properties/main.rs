//! Properties of the codec: the same whatever the cuts, what was sent is what arrives, and tungstenite agrees.

mod client;
mod differential;
mod round_trip;
mod server_frames;
mod splits;
