//! The stage of the integration tests: the real binary, scripted origins, and clients that see every byte.
//!
//! Everything binds port 0, every wait has a bound, and everything that was started ends with its test.

mod ask;
mod call;
mod cli;
mod config;
mod connection;
mod fault_proxy;
mod gate;
mod load;
mod logs;
mod metrics;
mod origin;
mod payload;
mod raw;
mod raw_origin;
mod redis;
mod reply;
mod sidecar;
mod wait;

pub(crate) use self::redis::{RedisCluster, RedisSentinels, RedisServer};
pub(crate) use ask::{Ask, chat, get};
pub(crate) use call::{Answer, Call};
pub(crate) use cli::outrigger;
pub(crate) use config::ConfigText;
pub(crate) use connection::{Connection, fetch, try_fetch};
pub(crate) use fault_proxy::{Fault, FaultProxy};
pub(crate) use gate::Gate;
pub(crate) use load::{Load, OnClose};
pub(crate) use logs::Logs;
pub(crate) use origin::{Origin, Seen};
pub(crate) use payload::{BodySender, channel, full, read_all};
pub(crate) use raw::Raw;
pub(crate) use raw_origin::RawOrigin;
pub(crate) use reply::Reply;
pub(crate) use sidecar::{Sidecar, Token};
pub(crate) use wait::{eventually, within};
