//! One connection's rules as a state machine. No await, no clock, no socket.
