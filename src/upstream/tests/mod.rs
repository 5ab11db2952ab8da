//! What the upstream side promises, against real sockets: one file per behaviour.

mod bodies;
mod cluster;
mod exchange;
mod http2;
mod limits;
mod tls;
