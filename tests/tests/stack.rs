//! All services together: the real programs, real sockets and uids, a real PAM.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

#[path = "stack/bed.rs"]
mod bed;
#[path = "stack/support.rs"]
mod support;

#[path = "stack/acl.rs"]
mod acl;
#[path = "stack/activated.rs"]
mod activated;
#[path = "stack/audit.rs"]
mod audit;
#[path = "stack/channels.rs"]
mod channels;
#[path = "stack/clock.rs"]
mod clock;
#[path = "stack/confinement.rs"]
mod confinement;
#[path = "stack/doctor.rs"]
mod doctor;
#[path = "stack/every_call.rs"]
mod every_call;
#[path = "stack/evil_gateway.rs"]
mod evil_gateway;
#[path = "stack/evil_keys.rs"]
mod evil_keys;
#[path = "stack/evil_subsystems.rs"]
mod evil_subsystems;
#[path = "stack/explain.rs"]
mod explain;
#[path = "stack/faults.rs"]
mod faults;
#[path = "stack/keys.rs"]
mod keys;
#[path = "stack/keys_disk.rs"]
mod keys_disk;
#[path = "stack/kill.rs"]
mod kill;
#[path = "stack/kill_points.rs"]
mod kill_points;
#[path = "stack/limits.rs"]
mod limits;
#[path = "stack/load.rs"]
mod load;
#[path = "stack/local_login.rs"]
mod local_login;
#[path = "stack/local_tcp.rs"]
mod local_tcp;
#[path = "stack/logs.rs"]
mod logs;
#[path = "stack/misconfigured.rs"]
mod misconfigured;
#[path = "stack/modules.rs"]
mod modules;
#[path = "stack/noise.rs"]
mod noise;
#[path = "stack/original.rs"]
mod original;
#[path = "stack/penalties.rs"]
mod penalties;
#[path = "../../gateway/tests/gateway/redis_server.rs"]
mod redis_server;
#[path = "stack/reload.rs"]
mod reload;
#[path = "stack/rest.rs"]
mod rest;
#[path = "stack/sessions.rs"]
mod sessions;
#[path = "stack/stop.rs"]
mod stop;
#[path = "stack/stranger.rs"]
mod stranger;
#[path = "stack/strict_keys.rs"]
mod strict_keys;
#[path = "stack/subsystems.rs"]
mod subsystems;
#[path = "stack/terminals.rs"]
mod terminals;
#[path = "stack/timers.rs"]
mod timers;
#[path = "stack/timing.rs"]
mod timing;
#[path = "stack/token_api.rs"]
mod token_api;
#[path = "stack/token_clients.rs"]
mod token_clients;
#[path = "stack/token_holders.rs"]
mod token_holders;
#[path = "stack/transcripts.rs"]
mod transcripts;
#[path = "stack/web.rs"]
mod web;
